"""The search for the fastest and smallest plan that keeps what was promised."""

from edgekit.search.find_plan import Effort, Found, check_effort, find_plan
from edgekit.search.front import Front, Point
from edgekit.search.promises import Promises
from edgekit.search.workshop import Workshop

__all__ = ["Effort", "Found", "Front", "Point", "Promises", "Workshop", "check_effort", "find_plan"]
