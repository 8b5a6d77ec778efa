"""Where algorithms run: rounds, one after the other."""
