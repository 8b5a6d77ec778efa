"""Research that has not been shown to pay: it may import anything, nobody imports it. See README.md."""
