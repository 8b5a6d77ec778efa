"""Flow, per-instance personalization: a plugin, which registers the method ``flow``."""

from spry.contrib.flow.answers import RoutedMetrics, evaluate_routed
from spry.contrib.flow.loss import RoutedLoss, route
from spry.contrib.flow.method import Flow
from spry.contrib.flow.policy import Policy

__all__ = ["Flow", "Policy", "RoutedLoss", "RoutedMetrics", "evaluate_routed", "route"]
