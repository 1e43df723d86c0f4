"""The fleet as the server knows it: enrolled devices, revocation, the keys of authority and aggregator, and the door."""
