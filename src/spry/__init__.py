"""Spry: federated fine-tuning of language models at about the memory of inference."""

__version__ = "0.1.0"
