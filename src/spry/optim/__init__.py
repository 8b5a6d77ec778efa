"""Optimizers as pure functions, the same on client and server."""
