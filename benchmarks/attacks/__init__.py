"""Attacks against the present code: one function each, which returns what it leaked or broke."""
