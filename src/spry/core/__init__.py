"""Values that everything else is made of: weights, keys, units, errors."""
