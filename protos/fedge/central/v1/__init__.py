"""Version 1 of the fallback service: `central.proto` and the Python generated from it."""
