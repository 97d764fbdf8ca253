"""The fixtures of served.py."""

from served import *  # noqa: F403
