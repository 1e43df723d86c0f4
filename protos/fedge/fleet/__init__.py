"""Messages between a device and the fleet door."""
