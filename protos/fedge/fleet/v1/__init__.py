"""Version 1 of the fleet door's services and the Python generated from them."""
