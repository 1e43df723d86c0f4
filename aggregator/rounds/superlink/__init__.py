"""Flower's SuperLink: its process, and the way of the rounds process and the door to it."""
