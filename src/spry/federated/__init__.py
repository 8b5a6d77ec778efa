"""Federated algorithms as compositions of pure functions."""
