"""What server and clients tell each other."""
