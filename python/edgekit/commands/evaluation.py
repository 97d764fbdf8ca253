"""What `--evaluate` measures by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from edgekit.classification import Classification
    from edgekit.data import Preprocessing


def read_evaluation(
    folder: Path | None, labels: Path | None, preprocessing: Preprocessing | None
) -> Classification | None:
    """Returns the measure of pictures in a folder for each class, None where there is no folder.

    Raises:
        BadParameter: Names of the classes are missing, or how pictures become inputs.
    """
    if folder is None:
        return None
    from edgekit.classification import Classification
    from edgekit.task_metadata import read_labels

    if labels is None or preprocessing is None:
        raise typer.BadParameter("--evaluate needs --labels and --preprocess")
    return Classification.from_folder(folder, read_labels(labels), preprocessing)
