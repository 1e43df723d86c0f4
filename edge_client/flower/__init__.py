"""Flower on the device: its `ClientApp` and the two ways to run it: embedded, or under an official SuperNode."""
