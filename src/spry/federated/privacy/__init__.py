"""Differential privacy of what clients send, and of what is made of it."""
