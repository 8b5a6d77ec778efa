"""Data: where labelled text comes from, who gets which examples, and how they become batches."""
