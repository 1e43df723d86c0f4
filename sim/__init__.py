"""A simulated fleet: the real devices' code and the real aggregator with a simulated clock, network and power."""
