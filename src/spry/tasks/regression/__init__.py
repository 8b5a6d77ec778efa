"""Predicting a number for each text."""
