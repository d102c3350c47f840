"""A small model of the ledger in plain Python: which batches there are, where each of their rows is, and which rows count.

It knows nothing of files, formats or the database. One feed with the correction policy `versioned`; rows are its
(document, version, value), one line to a document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime

BUDGET = 0.05


@dataclass(frozen=True)
class Row:
    """One record of a delivery; `value` is None where it breaks a rule."""

    document: str
    version: int
    value: int | None


@dataclass(eq=False)
class Batch:
    """One content of a date. `open` and its like are the states of its rows in quarantine, by line."""

    day: date
    content: tuple[Row, ...]
    received: datetime
    replays: Batch | None = None
    lines: tuple[tuple[Batch, int], ...] = ()
    state: str = "landed"
    because_of: Batch | None = None
    quarantine: dict[int, str] = field(default_factory=dict)
    resolved_by: dict[int, Batch] = field(default_factory=dict)

    @property
    def rows(self) -> dict[int, Row]:
        """Rows by line; the header is line 1."""
        return dict(enumerate(self.content, start=2))

    @property
    def sound(self) -> list[Row]:
        return [row for row in self.content if row.value is not None]

    @property
    def odd(self) -> list[int]:
        return [line for line, row in self.rows.items() if row.value is None]

    @property
    def delivery(self) -> Batch:
        """The delivery that it is, or that its rows came with."""
        return self.replays.delivery if self.replays else self


class Ledger:
    """What should be known after what happened. Methods are named after steps, commands and what partners do."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._drop: dict[tuple[date, str], tuple[tuple[Row, ...], datetime]] = {}
        self._seen: dict[tuple[date, str, tuple[Row, ...]], datetime] = {}
        self._found: list[tuple[date, datetime, str, tuple[Row, ...]]] = []

    # --- the partner and the steps ---

    def puts(self, day: date, name: str, content: tuple[Row, ...], at: datetime) -> None:
        self._drop[day, name] = content, at

    def fetch(self) -> None:
        for (day, name), (content, at) in self._drop.items():
            if self._seen.get((day, name, content)) != at:
                self._seen[day, name, content] = at
                self._found.append((day, at, name, content))

    def land(self) -> None:
        for day, at, name, content in sorted(self._found, key=lambda found: found[:2]):
            if self._drop[day, name][0] != content:
                # What was written over it since is what there is to read.
                self._seen.pop((day, name, content), None)
                content, at = self._drop[day, name]
                self._seen[day, name, content] = at
            known = next((b for b in self.batches if (b.day, b.content, b.replays) == (day, content, None)), None)
            if known:
                known.received = max(known.received, at)
            else:
                self.batches.append(Batch(day, content, at))
        self._found = []

    def load(self, day: date | None = None) -> None:
        for batch in self._in("landed", day):
            batch.state = "loaded"

    def gate(self, day: date | None = None) -> None:
        for batch in self._in("loaded", day):
            batch.quarantine = dict.fromkeys(batch.odd, "open")
            is_over = not batch.replays and len(batch.odd) > BUDGET * len(batch.content)
            batch.state = "held" if is_over else "gated"

    def publish(self, day: date | None = None) -> None:
        for batch in self._in("gated", day):
            batch.state = "published"
            self._close(batch)

    # --- people ---

    def accept(self, day: date) -> None:
        for batch in self._in("held", day):
            batch.state = "gated"

    def retry_held(self, day: date) -> None:
        for batch in self._in("held", day):
            if set(batch.quarantine.values()) <= {"open"} and not self._is_replayed(batch):
                batch.state, batch.quarantine = "landed", {}

    def discard(self, batch: Batch, line: int) -> None:
        batch.quarantine[line] = "discarded"

    def replay(self, batch: Batch, lines: Iterable[int], value: int | None) -> Batch:
        """Send open rows of a batch through the gate again. Returns the batch of the replay, which may be an old one."""
        chosen = tuple((batch, line) for line in lines)
        content = tuple(Row(row.document, row.version, value) for row in (batch.rows[line] for _, line in chosen))
        same = (b for b in self.batches if b.lines == chosen and b.content == content)
        new = next(same, None)
        if new is None:
            new = Batch(batch.day, content, batch.received, replays=batch, lines=chosen)
            self.batches.append(new)
        for step in (self.load, self.gate, self.publish):
            step(batch.day)
        return new

    def withdraw(self, chosen: Iterable[Batch]) -> None:
        gone = sorted(self._with_replays(chosen), key=self.batches.index)
        for batch in gone:
            chain = batch.replays
            while chain and chain not in gone:
                chain = chain.replays
            batch.state, batch.because_of = "withdrawn", None
            if chain:
                batch.because_of = self._root(chain, gone)
            batch.quarantine = {n: "withdrawn" if state == "open" else state for n, state in batch.quarantine.items()}
        for batch in self.batches:
            for line in [n for n, by in batch.resolved_by.items() if by in gone and batch not in gone]:
                del batch.resolved_by[line]
                batch.quarantine[line] = "open"

    def undo(self, chosen: Batch) -> bool:
        """Returns False when rows that it replays were decided otherwise meanwhile: then nothing changes."""
        back = [b for b in self.batches if b.state == "withdrawn" and (b is chosen or b.because_of is chosen)]
        lines = [(b, n) for replay in back for b, n in replay.lines if b not in back]
        if any(b.quarantine[n] != "open" for b, n in lines):
            return False
        for batch in back:
            batch.state, batch.because_of = "published", None
            batch.quarantine = {n: "open" if state == "withdrawn" else state for n, state in batch.quarantine.items()}
        for batch in back:
            self._close(batch, but=back)
        return True

    # --- what should be seen ---

    def in_order(self, state: str = "published") -> list[Batch]:
        """Batches in a state from the oldest to the newest, as they override each other."""
        found = [batch for batch in self.batches if batch.state == state]
        return sorted(found, key=lambda b: (b.day, b.delivery.received, self.batches.index(b)))

    def current(self) -> dict[str, tuple[int, int]]:
        """(version, value) of each document: of its newest version, the newest delivery."""
        found: dict[str, tuple[int, int]] = {}
        for batch in self.in_order():
            for row in batch.sound:
                if row.version >= found.get(row.document, (0, 0))[0]:
                    found[row.document] = row.version, row.value or 0
        return found

    def open_rows(self) -> Iterator[tuple[Batch, int]]:
        for batch in self.batches:
            yield from ((batch, line) for line, state in batch.quarantine.items() if state == "open")

    def _in(self, state: str, day: date | None = None) -> list[Batch]:
        return [batch for batch in self.batches if batch.state == state and day in (None, batch.day)]

    def _close(self, replay: Batch, but: Iterable[Batch] = ()) -> None:
        for batch, line in replay.lines:
            if batch not in but:
                batch.quarantine[line], batch.resolved_by[line] = "resolved", replay

    def _is_replayed(self, batch: Batch) -> bool:
        return any(of is batch for replay in self.batches for of, _ in replay.lines)

    def _with_replays(self, chosen: Iterable[Batch]) -> list[Batch]:
        found = list(chosen)
        for batch in found:
            found += [b for b in self.batches if b.replays is batch and b not in found]
        return [batch for batch in found if batch.state == "published"]

    def _root(self, batch: Batch, gone: list[Batch]) -> Batch:
        while batch.replays in gone:
            batch = batch.replays
        return batch
