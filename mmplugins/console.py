"""The console that tools and hooks print with, and text of users in its tables."""

from __future__ import annotations

from collections.abc import Iterable

from rich import console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from .utils import printable


class Console(console.Console):
    """rich's, which shows control characters in the text of users instead of obeying them.

    Names of classes, files and settings come from anywhere, and a terminal would take an escape in
    them for an order. Arguments are those of rich's console.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Segments of something to print; those that steer the terminal are rich's own."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else printable(segment.text)
            yield segment if text == segment.text else segment._replace(text=text)


def as_text(text: object, style: str = "") -> Text:
    """Text of a user for a cell or a title: no markup, and control characters at their width."""
    return Text(printable(str(text)), style)
