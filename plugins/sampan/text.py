"""Text that others wrote, made fit to be shown."""

from __future__ import annotations


def printable(text: str, keep: str = "\n") -> str:
    """Escape control characters, all but those in `keep`: a terminal would obey them, and a line end forges a log line."""
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)
