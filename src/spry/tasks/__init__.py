"""Tasks: what is learnt. Each owns one model that all clients share, its losses and its score."""
