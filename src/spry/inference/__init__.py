"""Using a trained adapter: predicting, evaluating, and merging it into its base."""
