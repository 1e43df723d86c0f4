"""Routers on recorded answers: reading them, training federally, baselines. Plays devices and server in one process."""
