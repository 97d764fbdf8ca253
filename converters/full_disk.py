"""Says which folder is full: the system's own message names neither the file nor what wanted to write it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from edgekit.targets.errors import EdgekitError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def name_full_disk(place: str | os.PathLike[str], remedy: str) -> Iterator[None]:
    """Turns "no space left", where the block raises it, into an error that names a place and a remedy.

    Args:
        place: The file or folder that is written.
        remedy: What to do, for the end of the message.

    Raises:
        EdgekitError: The disk, or the user's share of it, is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise EdgekitError(f"{place}: the disk is full: {remedy}") from error
