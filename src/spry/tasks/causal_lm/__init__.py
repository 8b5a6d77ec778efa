"""Causal language modelling and instruction tuning: the next token of texts, or of answers to prompts."""
