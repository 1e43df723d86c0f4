"""fedge: the vocabulary that devices and servers share. Pure: no sockets, no database, no clock, no Flower, no torch."""

from fedge.telemetry import disable_telemetry

disable_telemetry()  # before any module imports onnxruntime or flwr, which read their switches at import
