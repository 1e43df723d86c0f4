"""Everything that runs on a device: answering, asking central, learning, taking part in rounds. Never imports torch."""

from fedge.tls13 import require_tls13

require_tls13()  # before any module here imports gRPC
