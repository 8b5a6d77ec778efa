"""Multiple choice: options that are right or wrong one by one, as in MultiRC, or of which one is right."""
