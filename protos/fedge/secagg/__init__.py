"""Secure aggregation messages, by version."""
