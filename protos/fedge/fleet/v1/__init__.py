"""Version 1 of the fleet door's services: `.proto` files and the Python generated from them."""
