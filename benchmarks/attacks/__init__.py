"""Attacks by a deviating aggregator, a lying device or a greedy member, played against the present code."""
