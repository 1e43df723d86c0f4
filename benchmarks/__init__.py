from fedge.tls13 import require_tls13

require_tls13()  # before any module here imports gRPC
