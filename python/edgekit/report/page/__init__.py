"""A report as one page of HTML that is opened from disk: no network, no script, no file beside it.

All text goes through `markup.element`, which escapes it: names of layers, classes and notes are anyone's.
"""

from edgekit.report.page.whole import make_page

__all__ = ["make_page"]
