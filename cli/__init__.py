"""The `fedge` command: one file a subcommand, each importing its part of the system only when it is called."""

from fedge.tls13 import require_tls13

require_tls13()  # before any module here imports gRPC
