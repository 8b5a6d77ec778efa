"""Measures peak memory and time."""
