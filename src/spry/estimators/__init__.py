"""Estimates of gradients, with and without backpropagation."""
