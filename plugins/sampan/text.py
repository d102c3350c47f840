"""Text of partners on its way to a person: a terminal obeys control characters, a spreadsheet computes formulas."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

# What makes a spreadsheet take a text for a formula; the wide forms do so in Chinese versions. Both are also PostgreSQL's.
FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"
NUMBER = r"^[+-]?[0-9][0-9,]*(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
# Behind these a chat may see a mention, a link with a text of its own, an address or hidden text: `@all`, `[text](...)`,
# `<!channel>`, `https://`, `||`. Not those of a mail's address.
MARKUP = re.compile(
    r"(?<![\w.+-])@|\](?=[(\[:])|<(?=[\w/!@#&:?])|\b[A-Za-z][A-Za-z0-9+.-]*:(?=//)|\bwww(?=\.)|\|(?=\|)|~(?=~)",
    re.ASCII,
)
# Control characters, invisible and direction-changing ones, ends of lines and paragraphs, halves of characters.
OBEYED = ("Cc", "Cf", "Zl", "Zp", "Cs")


def printable(text: str, keep: str = "\n") -> str:
    """Escape what a terminal obeys or does not show, such as ESC, but for the characters in `keep`."""
    return "".join(ascii(c)[1:-1] if c not in keep and unicodedata.category(c) in OBEYED else c for c in text)


def indented(text: str) -> str:
    """Printable text whose lines after the first are indented, so that none of them looks like another message."""
    return printable(text).replace("\n", "\n    ")


def spreadsheet_text(text: str) -> str:
    """A value for a CSV file that a person opens: what a spreadsheet would take for a formula gets a `'` before it.

    Numbers stay as they are, negative ones too.
    """
    is_formula = re.match(FORMULA, text) and not re.match(NUMBER, text)
    return printable(f"'{text}" if is_formula else text)


def from_spreadsheet(text: str) -> str:
    """The value of a cell without the `'` of `spreadsheet_text`."""
    return text[1:] if text.startswith("'") and re.match(FORMULA, text[1:]) else text


class OneLineFormatter(logging.Formatter):
    """Log lines without control characters: a record is one line, and a stack trace below it is indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Text of a record."""
        return printable(super().formatMessage(record)).replace("\n", r"\n")

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Text of a record's exception."""
        return "    " + indented(super().formatException(ei))


def literal(text: str) -> str:
    """Text for a place that reads Markdown: each mark of it is itself."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def inert(text: str) -> str:
    """Text for a chat: it calls no one and has no link but a path, and reads the same. What could begin one is split.

    Chats take marks in a plain text for their own, and have no common way to escape them.
    """
    return MARKUP.sub(lambda match: f"{match.group()}\u200b", text)


def did_you_mean(word: str, known: Iterable[str], those: str = "") -> str:
    """The end of a message about an unknown word: the known ones that are like it, or all of `those`, if that is given."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(word, names, 3, 0.55)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; {those}: {', '.join(names) or 'none'}" if those else ""
