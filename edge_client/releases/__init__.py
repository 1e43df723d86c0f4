"""Which release this device runs: fetched, verified, loaded, tested here, swapped, watched, given back."""
