"""What commands print: tables and lines on standard output, the text of partners without control characters."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sampan.errors import SampanError, TransientFailure
from sampan.text import indented, printable


class SafeConsole(Console):
    """A console that escapes control characters in strings: a partner's text may be in any of them."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich's console does."""
        super().print(*(printable(item) if isinstance(item, str) else item for item in objects), **options)


out = SafeConsole()


def table(title: str, headings: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Print a table. Columns that hold nothing but whole numbers are aligned right; None is an empty cell."""
    made = Table(title=title, title_justify="left")
    for position, heading in enumerate(headings):
        numeric = bool(rows) and all(isinstance(row[position], int | None) for row in rows)
        made.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        cells = ("" if value is None else f"{value:,}" if isinstance(value, int) else str(value) for value in row)
        made.add_row(*(Text(printable(cell)) for cell in cells))
    out.print(made)


def field(name: str, value: object) -> None:
    """Print one `name: value` line as it is, without rich's markup and colours."""
    out.print(f"{name}: {value}", markup=False, highlight=False)


def message(text: object) -> None:
    """Print a message on standard error, after the name of the command."""
    print(indented(f"sampan: {text}"), file=sys.stderr)


def message_of(error: SampanError) -> str:
    """What a person reads of a failure: a transient one with the advice to try again."""
    return f"{error}; try again" if isinstance(error, TransientFailure) else str(error)
