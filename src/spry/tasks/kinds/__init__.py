"""The kinds of trainable weights that ``peft`` can add to a frozen model, one a file."""
