"""Flower as a runtime: nothing outside this package imports it."""
