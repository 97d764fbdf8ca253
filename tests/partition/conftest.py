"""The fixtures of serving/served.py."""

from served import *  # noqa: F403
