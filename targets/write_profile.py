"""Writes a profile as TOML that `read_profile` reads back as the same."""

import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from edgekit.targets.errors import TargetError
from edgekit.targets.profile import Profile, read_profile


def write_profile(path: Path, profile: Profile, *, heading: str = "") -> None:
    """Writes a profile; one that lies there is replaced once the new one was read back.

    Args:
        path: `NAME.toml`, with the profile's name.
        profile: What to write.
        heading: Comment for the first lines.

    Raises:
        TargetError: It breaks a rule of profiles, and nothing was written; the message names the key.
        OSError: The file cannot be written.
    """
    text = format_profile(profile)
    if heading:
        text = "".join(f"# {line}\n" for line in heading.splitlines()) + text
    replace_profile(path, text, profile)


def replace_profile(path: Path, text: str, wanted: Profile | None = None) -> Profile:
    """Puts ``text`` at ``path`` if it is a valid profile, and ``wanted`` where that is given; returns what was read.

    Raises:
        TargetError: It isn't; what lay there stays.
        OSError: The file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix=".edgekit-", dir=path.parent) as folder:
        new = Path(folder) / path.name
        new.write_text(text, encoding="utf-8")
        try:
            read = read_profile(new)
        except TargetError as error:
            raise TargetError(str(error).replace(str(new), str(path))) from error
        if wanted is not None and read != wanted:
            raise TargetError(f"{path}: the profile does not read back as it was written")
        os.replace(new, path)
    return read


def format_profile(profile: Profile) -> str:
    """Returns the profile's TOML, without what has its default."""
    lines: list[str] = []
    _format_table(profile, "", lines)
    return "\n".join(lines).strip("\n") + "\n"


def _format_table(section: Any, prefix: str, lines: list[str]) -> None:
    tables: list[tuple[str, Any]] = []
    for item in dataclasses.fields(section):
        value = getattr(section, item.name)
        if dataclasses.is_dataclass(value):
            tables.append((item.name, value))
        elif isinstance(value, dict):
            if value:
                tables.append((item.name, value))
        elif value is not None and value != item.default:
            lines.append(f"{item.name} = {_format_value(value)}")
    for name, value in tables:
        heading = f"{prefix}{name}"
        body: list[str] = []
        if isinstance(value, dict):
            body = [f"{key} = {_format_value(text)}" for key, text in value.items()]
        else:
            _format_table(value, heading + ".", body)
        if body:
            direct = bool(body[0] and not body[0].startswith("["))
            lines += ["", *([f"[{heading}]"] if direct else []), *body]


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the delete character, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        items = [_format_value(item) for item in value]
        line = f"[{', '.join(items)}]"
        if len(line) <= 100:
            return line
        return "[\n" + "".join(f"  {item},\n" for item in items) + "]"
    return repr(value)
