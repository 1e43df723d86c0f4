"""Messages between a device and the central fallback service."""
