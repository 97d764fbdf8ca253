"""Checks of bundles in pipelines: a gate by figures, as a command, in Python, and in pytest."""
