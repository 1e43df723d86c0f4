"""The wire: .proto files and the Python generated from them."""
