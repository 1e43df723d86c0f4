"""Joining a fleet and staying in it: certificates, trusted keys, revocations, and the way to the door."""
