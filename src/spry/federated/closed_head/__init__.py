"""A classifier's head in closed form, from sums that clients take over their examples once: no training rounds."""
