"""How long work tells how far it is."""

from collections.abc import Callable

# Called with the name of a stage, how much is done, and how much there is (None where that is not known).
Progress = Callable[[str, int, int | None], None]


def ignore_progress(stage: str, done: int, total: int | None) -> None:
    """Tells nobody."""
