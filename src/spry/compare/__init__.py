"""Runs many configurations and compares them: tuning, fairness, costs."""
