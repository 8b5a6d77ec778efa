"""Activation directions: a plugin, which registers the method ``spry_activation``."""

from spry.contrib.activation.estimator import PerExampleLoss, activation
from spry.contrib.activation.method import SpryActivation

__all__ = ["PerExampleLoss", "SpryActivation", "activation"]
