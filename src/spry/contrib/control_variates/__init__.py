"""Control variates: a plugin, which registers the method ``spry_control_variate``."""

from spry.contrib.control_variates.directions import corrected, guided, guided_directions
from spry.contrib.control_variates.method import SpryControlVariate

__all__ = ["SpryControlVariate", "corrected", "guided", "guided_directions"]
