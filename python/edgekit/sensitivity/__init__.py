"""What each layer costs the answers in each number format, measured by running."""

from edgekit.sensitivity.effect import Effect, Sensitivity
from edgekit.sensitivity.measure import measure_sensitivity, sense

__all__ = ["Effect", "Sensitivity", "measure_sensitivity", "sense"]
