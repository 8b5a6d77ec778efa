"""Templates of the files of a Flower app."""
