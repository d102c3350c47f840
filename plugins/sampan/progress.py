"""What a piece of work that takes seconds is at. Who draws it listens; where no one does, nothing happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")
Listener = Callable[[str, int, int], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def listen(listener: Listener | None) -> None:
    """Have every `report` of this context passed to a listener; None ends it."""
    _listener.set(listener)


def report(what: str, done: int = 0, total: int = 0) -> None:
    """Say what the work is at, and how many of how many parts are done; total 0: it is not known."""
    if (listener := _listener.get()) is not None:
        listener(what, done, total)


def each(items: Iterable[Item], name: Callable[[Item], str] = str) -> Iterator[Item]:
    """The items, each reported by its name when its turn comes."""
    total = len(items) if isinstance(items, Sized) else 0
    for done, item in enumerate(items):
        report(name(item), done, total)
        yield item
