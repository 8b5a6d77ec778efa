"""What is measured: memory, time and accuracy."""
