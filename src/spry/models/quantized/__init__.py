"""Frozen bases in 4 or 8 bits: which kinds there are, what is kept of a weight, and the layers that compute with it."""
