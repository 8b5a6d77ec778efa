"""Tasks: the home of transformers and peft; each owns one model that all clients share."""
