"""What an application has to know beside the network: the names of its classes, and how a picture becomes its input.

labels.txt          a name a line, of the classes of the first output; UTF-8
preprocessing.json  `Preprocessing`, and the input that it is for; docs/boards.md describes the steps
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgekit.bundles.manifest import format_json, parse_json
from edgekit.data import Preprocessing
from edgekit.targets.errors import CalibrationError, PlanError

LABELS = "labels.txt"
PREPROCESSING = "preprocessing.json"


@dataclass(frozen=True)
class Usage:
    """How a network is used.

    Attributes:
        labels: Names of the classes of its first output; empty where they are not known.
        preprocessing: How a picture becomes its input, None where that is not known.
        input: The input that this is; "" where it is not known.
    """

    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    input: str = ""

    def to_files(self) -> dict[str, bytes]:
        """Returns the files that hold it, by their names; nothing for what is not known."""
        files = {}
        if self.labels:
            files[LABELS] = "".join(f"{label}\n" for label in self.labels).encode()
        if self.preprocessing is not None:
            table = {"schema": 1, "input": self.input, **self.preprocessing.to_dict()}
            files[PREPROCESSING] = format_json(table)
        return files


def read_usage(folder: Path) -> Usage:
    """Reads what `Usage.to_files` wrote into a bundle's folder.

    Raises:
        PlanError: A file is damaged; names it.
    """
    labels: tuple[str, ...] = ()
    if (file := folder / LABELS).is_file():
        try:
            text = file.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise PlanError(f"{file}: not UTF-8: {error}") from error
        labels = tuple(text.removesuffix("\n").split("\n"))
    if not (file := folder / PREPROCESSING).is_file():
        return Usage(labels)
    table = parse_json(file, file.read_bytes())
    words = {"schema", "input", *(field.name for field in fields(Preprocessing))}
    if not isinstance(table, dict) or set(table) != words or table["schema"] != 1:
        raise PlanError(
            f"{file}: must have the keys {', '.join(sorted(words))} alone, and schema 1"
        )
    name = table.pop("input")
    if not isinstance(name, str):
        raise PlanError(f"{file}: 'input' must be a string")
    del table["schema"]
    try:
        preprocessing = Preprocessing(**{key: _to_tuple(value) for key, value in table.items()})
    except (CalibrationError, TypeError) as error:
        raise PlanError(f"{file}: {error}") from error
    return Usage(labels, preprocessing, name)


def _to_tuple(value: Any) -> Any:
    """Returns JSON's arrays as the tuples that they were."""
    return tuple(value) if isinstance(value, list) else value
