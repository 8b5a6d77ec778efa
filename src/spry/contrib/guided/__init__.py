"""Guided directions and the referee: a plugin, which registers the method ``guided``."""

from spry.contrib.guided.auxiliary import LocalHeads, auxiliary, fit_heads
from spry.contrib.guided.estimator import along_guess
from spry.contrib.guided.method import Guided
from spry.contrib.guided.referee import refereed

__all__ = ["Guided", "LocalHeads", "along_guess", "auxiliary", "fit_heads", "refereed"]
