"""Names that a SuperNode's app and whoever starts the SuperNode must agree on."""

APP = "edge_client.flower.app:app"
HOME = "FEDGE_DEVICE_HOME"
