"""A simulated fleet: the real devices' code and the real aggregator with a simulated clock, network and power."""

from fedge.tls13 import require_tls13

require_tls13()  # before any module here imports gRPC
