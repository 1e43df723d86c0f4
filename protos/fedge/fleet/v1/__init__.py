"""Version 1 of what passes the fleet's door: `.proto` files and the Python generated from them."""
