"""Secure aggregation: a server learns the sum of its clients' numbers, and nothing of any one of them."""
