"""What commands print: lists and lines on standard output, messages and progress on standard error.

One list is printed in three forms: as a table for a person at a terminal, tab-separated for a pipe, as JSON with `--json`.
The text of partners is in all of them without control characters.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sampan import progress
from sampan.errors import SampanError, TransientFailure
from sampan.text import OBEYED, indented, printable, spreadsheet_text

# A longer cell is a sentence: where rows do not fit beside each other, it has lines of its own.
SENTENCE = 40
# Work that takes no longer draws nothing.
PROGRESS_AFTER = 2.0

Row = Sequence[Any]


class SafeConsole(Console):
    """A console that escapes control characters in strings: a partner's text may be in any of them."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich's console does, not into a line of progress."""
        with no_progress():
            super().print(*(printable(item) if isinstance(item, str) else item for item in objects), **options)


out = SafeConsole()


# --- lists ------------------------------------------------------------------------------------------------------------


@dataclass
class _Document:
    """What a command lists, until its end: (key, title, headings, rows) of each table, and single values by name."""

    as_json: bool
    tables: list[tuple[str, str, Sequence[str], list[Row]]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)


_document: _Document | None = None


def lists(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator of a command that lists something: gives it `--json`, and prints what it lists in the form that is wanted."""
    as_json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

    @wraps(command)
    def listing(*arguments: Any, as_json: bool = False, **options: Any) -> None:
        global _document
        _document = _Document(as_json) if as_json or not out.is_terminal else None
        try:
            command(*arguments, **options)
        except typer.Exit:
            _print_document()
            raise
        else:
            _print_document()
        finally:
            _document = None

    signature = inspect.signature(command, eval_str=True)
    added = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=as_json)
    listing.__dict__["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), added])
    return listing


def table(
    title: str, headings: Sequence[str], rows: Sequence[Row], empty: str | None = None, key: str | None = None
) -> None:
    """List rows. An empty list is the sentence `empty` at a terminal. `key` names it in a JSON document with several.

    Cells of columns with nothing but whole numbers are aligned right; None is an empty cell. No word is cut or folded: where
    the columns do not fit beside each other, each row is printed as text of its own.
    """
    if _document is not None:
        _document.tables.append((key or _name(title), title, headings, list(rows)))
    elif not rows and empty is not None:
        out.print(empty, soft_wrap=True)
    else:
        _draw(title, headings, [[_cell(value) for value in row] for row in rows], _numbers(headings, rows))


def fields(values: Mapping[str, object]) -> None:
    """List single values by name, each on a line, in a pipe as well."""
    if _document is not None and _document.as_json:
        _document.values |= values
        return
    for name, value in values.items():
        # Sentences each on a line.
        lines = isinstance(value, list) and any(" " in str(item) for item in value)
        text = "".join(f"\n  {item}" for item in value) if lines and isinstance(value, list) else _cell(value)
        out.print(f"{name}: {text}", markup=False, highlight=False, soft_wrap=True)


def is_machine() -> bool:
    """Whether a list is printed for a program: as JSON, or tab-separated into a pipe."""
    return _document is not None


def note(text: str) -> None:
    """A sentence beside a list, for a person at a terminal only."""
    if _document is None:
        out.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_document() -> None:
    if _document is None:
        return
    if _document.as_json:
        lists_by_key: dict[str, Any] = {
            key: [dict(zip(map(_name, headings), row, strict=True)) for row in rows]
            for key, _, headings, rows in _document.tables
        }
        alone = len(lists_by_key) == 1 and not _document.values
        whole = next(iter(lists_by_key.values())) if alone else _document.values | lists_by_key
        print(_safe_json(whole))
        return
    for _, title, headings, rows in _document.tables:
        if len(_document.tables) > 1:
            print(f"# {title}")
        print("\t".join(headings))
        for row in rows:
            print("\t".join(map(_plain, row)))


def _safe_json(value: Any) -> str:
    """JSON text in which characters that a terminal obeys are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return "".join(json.dumps(c)[1:-1] if c != "\n" and unicodedata.category(c) in OBEYED else c for c in text)


def _name(heading: str) -> str:
    return re.sub(r"\W+", "_", heading).strip("_").lower()


def _plain(value: Any) -> str:
    """A cell between tabs: numbers without separators, no line break and no tab inside, and no formula for a spreadsheet."""
    if value is None:
        return ""
    return printable(spreadsheet_text(", ".join(map(str, value)) if isinstance(value, list) else str(value)), "")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _numbers(headings: Sequence[str], rows: Sequence[Row]) -> list[bool]:
    return [bool(rows) and all(isinstance(row[at], int | None) for row in rows) for at in range(len(headings))]


def _draw(title: str, headings: Sequence[str], rows: list[list[str]], numbers: list[bool]) -> None:
    cells = [[printable(cell) for cell in row] for row in rows]
    columns = [[heading, *(row[at] for row in cells)] for at, heading in enumerate(headings)]
    widths = _widths(columns, out.width - 3 * len(headings) - 1)
    if widths is None:
        out.print(Text(title, "bold"))
        for first, *others in cells:
            named = list(zip(headings[1:], others, strict=True))
            short = [f"{heading} {cell}" for heading, cell in named if cell and cell_len(cell) <= SENTENCE]
            out.print(Text(first, "bold").append("".join(f" · {part}" for part in short), "not bold"))
            for heading, cell in named:
                if cell_len(cell) > SENTENCE:
                    out.print(Padding(Text(f"{heading}: {cell}"), (0, 0, 0, 4)))
        return
    made = Table(title=title, title_justify="left", title_style="bold")
    for heading, width, is_number in zip(headings, widths, numbers, strict=True):
        made.add_column(heading, width=width, justify="right" if is_number else "left", overflow="fold")
    for row in cells:
        made.add_row(*map(Text, row))
    out.print(made)


def _widths(columns: list[list[str]], room: int) -> list[int] | None:
    """Width of each column such that cells are wrapped between words only; None when there is no room."""
    least = [max((cell_len(word) for cell in cells for word in cell.split()), default=1) for cells in columns]
    if sum(least) > room:
        return None
    wanted = [max(map(cell_len, (line for cell in cells for line in cell.split("\n"))), default=1) for cells in columns]
    widths, spare = list(least), room - sum(least)
    # The columns that want least are served first, so that what is left goes to the sentences.
    for rank, at in enumerate(sorted(range(len(columns)), key=lambda column: wanted[column] - least[column])):
        given = min(max(wanted[at] - least[at], 0), spare // (len(columns) - rank))
        widths[at] += given
        spare -= given
    return widths


# --- messages and progress --------------------------------------------------------------------------------------------


def message(text: object) -> None:
    """Print a message on standard error, after the name of the command."""
    with no_progress():
        print(indented(f"sampan: {text}"), file=sys.stderr)


def message_of(error: SampanError) -> str:
    """What a person reads of a failure: a transient one with the advice to try again."""
    return f"{error}; try again" if isinstance(error, TransientFailure) else str(error)


class LogHandler(logging.StreamHandler[Any]):
    """Log lines on standard error, not into a line of progress."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        with no_progress():
            super().emit(record)


_drawn: Progress | None = None
_turn = threading.RLock()


@contextmanager
def no_progress() -> Iterator[None]:
    """Take the line of progress, if one is drawn, away while something is printed."""
    with _turn:
        drawn = _drawn
        if drawn is not None:
            drawn.stop()
        yield
        if drawn is not None:
            drawn.start()


@contextmanager
def working(title: str) -> Iterator[None]:
    """Show on standard error what the work in the block is at, from its third second on; nothing when that is piped."""
    global _drawn
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    bar = Progress(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(), console=console, transient=True,
    )  # fmt: skip
    job = bar.add_task(title, total=None, count="")

    def show(what: str, done: int, total: int) -> None:
        count = f"{done} of {total}" if total else ""
        bar.update(job, description=f"{title}: {printable(what, '')}", completed=done, total=total or None, count=count)

    def draw() -> None:
        global _drawn
        with _turn:
            _drawn = bar
            bar.start()

    timer = threading.Timer(PROGRESS_AFTER, draw)
    timer.daemon = True
    timer.start()
    progress.listen(show)
    try:
        yield
    finally:
        timer.cancel()
        progress.listen(None)
        with _turn:
            if _drawn is not None:
                bar.stop()
            _drawn = None
