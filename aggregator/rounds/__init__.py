"""Rounds: cohort, secure sum, server step, release, certificate, under a Flower `ServerApp`."""
