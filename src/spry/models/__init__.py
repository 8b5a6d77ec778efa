"""Hugging Face models: loading, adapting through peft, and what an engine needs to know of them."""
