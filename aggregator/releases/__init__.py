"""The releases of a fleet: the registry that says what is so, and TUF, by which devices believe it."""
