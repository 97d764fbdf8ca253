"""A report: the account of a deployment, and the ways to show it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.replace_folder import replace_file
from edgekit.report.account import Account

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class Report(Account):
    """The account of one deployment. ``print`` it, or take ``to_html``, ``to_dict`` and ``to_json``."""

    def __str__(self) -> str:
        """Returns the report as plain text, 100 columns wide."""
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=100, no_color=True).print(self)
        return text.getvalue()

    def __rich__(self) -> Group:
        from edgekit.report.terminal import present

        return present(self)

    def to_html(self) -> str:
        """Returns the report as one page that needs nothing else: no network, no script, no file beside it."""
        from edgekit.report.page import make_page

        return make_page(self)

    def save_html(self, path: str | Path) -> Path:
        """Writes `to_html` to a file, which replaces a former one once it is whole.

        Raises:
            OSError: It cannot be written.
        """
        return _save(Path(path), self.to_html())

    def save_json(self, path: str | Path) -> Path:
        """Writes `to_json` to a file, which `read_report` and `edgekit report` read.

        Raises:
            OSError: It cannot be written.
        """
        return _save(Path(path), self.to_json() + "\n")


def _save(path: Path, text: str) -> Path:
    replace_file(path, text.encode())
    return path
