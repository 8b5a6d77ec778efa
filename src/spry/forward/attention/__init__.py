"""Scaled dot-product attention of dual numbers, block by block."""
