"""Deliveries of all partners for a window of business dates, put where partners put them, with a record of the planted.

The record lies in the folder `truth`: `planted.jsonl` has one line per object that was put (and one per delivery that
is missing, and per day of an API), `dirty.parquet` one row per row that must not get through, `published/` the rows
that must, a file per feed, and the remaining files what the partners' worlds look like behind their deliveries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Protocol

import numpy as np
import polars as pl
from sampan.calendar import HONG_KONG
from sampan.contracts.model import Contract
from sampan.contracts.registry import all_contracts

from infra.simulator import faults as fault
from infra.simulator import shapes
from infra.simulator import vocabulary as words
from infra.simulator.draws import number
from infra.simulator.faults import Faults, Spoiler
from infra.simulator.orders import Order, saved
from infra.simulator.partners import (
    cdi,
    csd,
    customs,
    gallery,
    hkecic,
    hkma,
    hktdc,
    marks,
    open_data,
    platforms,
    registers,
    tid,
    traffic,
)
from infra.simulator.partners.openings import GOES_ON, opens
from infra.simulator.population import CONNECTED, Population
from infra.simulator.shops import BONDED_SHOPS, shops
from infra.simulator.world import Period, World

FEEDS: dict[str, Callable[[World], Iterator[tuple[date, pl.DataFrame | None]]]] = {
    "business_register": registers.business_register,
    "cdi_consents": cdi.cdi_consents,
    "cdi_financing_requests": cdi.cdi_financing_requests,
    "credit_reference_checks": cdi.credit_reference_checks,
    "csd_bulk_hsccit": csd.bulk_hsccit,
    "csd_bulk_hscoccit": csd.bulk_hscoccit,
    "csd_bulk_hscoit": csd.bulk_hscoit,
    "customs_declarations": customs.declarations,
    "design_gallery_sales": gallery.design_gallery_sales,
    "epayment_summaries": cdi.epayment_summaries,
    "festival_participants": hktdc.festival_participants,
    "funding_applications": tid.funding_applications,
    "funding_payments": tid.funding_payments,
    "hkecic_claims": hkecic.hkecic_claims,
    "hkecic_policies": hkecic.hkecic_policies,
    "hkecic_shipments": hkecic.hkecic_shipments,
    "platform_orders": platforms.platform_orders,
    "platform_traffic": traffic.platform_traffic,
    "quality_marks": marks.quality_marks,
    "trade_missions": gallery.trade_missions,
}
README = f"""{shapes.LABEL}

Everything in this folder was made by a simulator from a seed. Company names are coined, business registration numbers
are from 90000000 on, HKID numbers carry letters that were never issued, telephone numbers lie in ranges not in use.
"""
# From this number of enterprises on the published rows are counted but not kept.
KEEP_ROWS_BELOW = 20_000
SMALLEST_HELD = 4
# What a fault delays comes so long after the regular time at most; anything is sent so long after its date at most.
LATEST = timedelta(days=2, hours=7)
SENT_WITHIN = timedelta(days=70)


class Sink(Protocol):
    """Where objects of the drop bucket go."""

    def put(self, key: str, body: bytes, metadata: dict[str, str]) -> None:
        """Store one object; keys are relative to the bucket, metadata is plain ASCII."""
        ...


@dataclass
class Folder:
    """Objects as files under `path`/drop."""

    path: Path

    def put(self, key: str, body: bytes, metadata: dict[str, str]) -> None:
        """Write one file; its metadata is not kept."""
        target = self.path / "drop" / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)


@dataclass
class Bucket:
    """Objects in the drop bucket, each put by its partner. A second object of a date is received measurably later."""

    client_of: Callable[[str], Any]
    name: str
    put_at: dict[str, float] = field(default_factory=dict)

    def put(self, key: str, body: bytes, metadata: dict[str, str]) -> None:
        """Put one object."""
        folder = key.rsplit("/", 1)[0]
        # Object stores keep whole seconds.
        wait = 1.1 - (monotonic() - self.put_at[folder]) if folder in self.put_at else 0
        if wait > 0:
            sleep(wait)
        partner = key.split("/", 1)[0]
        self.client_of(partner).put_object(Bucket=self.name, Key=key, Body=body, Metadata=metadata)
        self.put_at[folder] = monotonic()


@dataclass
class Delivery:
    """One object that a partner puts, and what must come of it.

    `expected`: published, held, known (content that the ledger has) or unknown (a text file that breaks off). Counts
    are of records; `rows_quarantined` includes rows that contradict each other. Of a held delivery they say what its
    records are, though none is published.
    """

    feed: str
    business_date: date
    file: str
    body: bytes
    sent_at: datetime
    expected: str
    events: list[str]
    reason: str | None = None
    rows_in: int | None = None
    rows_quarantined: int | None = None
    rows_duplicate: int | None = None
    rows_published: int | None = None
    dirty: list[dict[str, Any]] = field(default_factory=list)
    clean: pl.DataFrame | None = None

    @property
    def sha256(self) -> str:
        """SHA-256 of the content in hex."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass
class Outcome:
    """What was delivered: objects put, and the records of them as in planted.jsonl."""

    objects: int
    planted: list[dict[str, Any]]
    truth: Path

    def rows(self, feed: str) -> int:
        """Records of a feed that must be published."""
        return sum(entry.get("rows_published") or 0 for entry in self.planted if entry["feed"] == feed)


def run(
    out: Path | Bucket,
    *,
    seed: int = 20260706,
    smes: int = 2000,
    start: date = date(2026, 7, 6),
    days: int = 30,
    faults: Faults = fault.DEFAULT,
    feeds: Iterable[str] | None = None,
    truth: Path | None = None,
    population: Population | None = None,
    told: Callable[[date, int], None] | None = None,
) -> Outcome:
    """Deliver all of a world that begins with the business date `start` into a folder or a bucket.

    `told` hears of each business date and the objects put so far.
    """
    world = Order(seed, smes, start, days).world(population)
    return deliver(out, world, faults=faults, feeds=feeds, truth=truth, told=told)


def deliver(
    out: Path | Bucket,
    world: World,
    *,
    faults: Faults = fault.DEFAULT,
    feeds: Iterable[str] | None = None,
    truth: Path | None = None,
    sent_after: datetime | None = None,
    sent_until: datetime | None = None,
    told: Callable[[date, int], None] | None = None,
) -> Outcome:
    """Deliver the periods of a world, or of them only what partners send between two times (after one, until the other).

    With `sent_after` the record of what was planted is added to the one in `truth`, else it begins again.
    """
    contracts = all_contracts()
    chosen = [feed for feed in contracts if feeds is None or feed in set(feeds)]
    unknown = set(feeds or ()) - set(contracts)
    if unknown:
        raise ValueError(f"no feed {', '.join(sorted(unknown))}; feeds: {', '.join(contracts)}")
    if truth is None:
        if not isinstance(out, Path):
            raise ValueError("a bucket needs a folder for the truth")
        truth = out / "truth"
    truth.mkdir(parents=True, exist_ok=True)
    # Names and numbers of simulated persons look real.
    truth.chmod(0o700)
    sink: Sink = Folder(out) if isinstance(out, Path) else out
    begins = sent_after is None and world.periods[0] == world.schedule[0]
    record = _Record(truth, keep=len(world.population.smes) < KEEP_ROWS_BELOW, more=sent_after is not None)
    if begins:
        for partner in sorted({contracts[feed].partner for feed in chosen if feed in FEEDS}):
            # By its name no delivery: one beside the feeds' folders is refused.
            sink.put(f"{partner}/_README-SYNTHETIC.txt", README.encode(), {"synthetic": "true"})
    if sent_after is None and "hkhs_codes" in chosen:
        for entry in _earlier_editions(sink, contracts["hkhs_codes"], world):
            record.add(entry)

    def is_sent(at: datetime) -> bool:
        return (sent_after is None or at > sent_after) and (sent_until is None or at <= sent_until)

    servers = open_data.OpenData(world)
    makers = {feed: FEEDS[feed](world) for feed in chosen if feed in FEEDS}
    upcoming = {feed: next(maker, None) for feed, maker in makers.items()}
    waiting: list[Delivery] = []
    objects = 0
    for position, period in enumerate(world.periods):
        day = period.business_date
        for feed in chosen:
            contract = contracts[feed]
            if contract.source.kind == "api":
                asked = period.serial == 0 or (period.serial is not None and _is_asked(contract, period))
                if asked and is_sent(datetime.combine(day, time.fromisoformat(contract.calendar.due), HONG_KONG)):
                    record.add(_asked(contract, world, servers, day))
                continue
            # What comes once a week or month may be of a date before the period, or between two business dates.
            while (current := upcoming.get(feed)) and current[0] <= day:
                upcoming[feed] = next(makers[feed], None)
                regular = fault.moment(contract.calendar, current[0])
                # Nothing of it is sent between the two times.
                over = sent_after is not None and regular + LATEST <= sent_after
                if current[1] is None or over or (sent_until is not None and regular > sent_until):
                    continue
                for delivery in _deliveries(contract, world, period, current[0], current[1], faults):
                    if isinstance(delivery, Delivery):
                        if is_sent(delivery.sent_at):
                            waiting.append(delivery)
                    elif is_sent(regular):
                        record.add(delivery)
        waiting.sort(key=lambda delivery: delivery.sent_at)
        last = position == len(world.periods) - 1
        while waiting and (last or waiting[0].sent_at.date() < day + timedelta(days=2)):
            delivery = waiting.pop(0)
            _put(sink, contracts[delivery.feed], delivery, world)
            record.delivered(contracts[delivery.feed], delivery)
            objects += 1
        if told:
            told(day, objects)
    record.finish(world, chosen)
    return Outcome(objects, record.planted, truth)


def next_day(
    out: Path | Bucket, truth: Path, until: datetime, told: Callable[[date, int], None] | None = None
) -> tuple[Order, Outcome]:
    """The world of a folder of truth goes on by one business date: what partners send since the last time until another.

    Raises ValueError when the folder does not say how far the world was delivered.
    """
    before = saved(truth)
    if before is None or before.until is None:
        raise ValueError(f"{truth} does not say until when a world was delivered; deliver one with --until first")
    order = replace(before, days=before.days + 1, until=until)
    # A monthly delivery may be sent a month and more after the last day that it is about.
    world = order.world(since=order.last - SENT_WITHIN)
    outcome = deliver(
        out, world, faults=fault.parse(order.faults), feeds=order.feed_names, truth=truth, sent_after=before.until,
        sent_until=until, told=told,
    )  # fmt: skip
    order.save(truth)
    return order, outcome


def _put(sink: Sink, contract: Contract, delivery: Delivery, world: World) -> None:
    key = f"{contract.drop_prefix}{delivery.business_date}/{delivery.file}"
    metadata = {"synthetic": "true", "seed": str(world.seed), "sent-at": delivery.sent_at.isoformat()}
    sink.put(key, delivery.body, metadata)


def _is_asked(contract: Contract, period: Period) -> bool:
    """Whether a feed's API is due to be asked in a period."""
    calendar = contract.calendar
    days = [day.isoweekday() if calendar.days == "weekly" else day.day for day in period.days]
    return calendar.day is None or calendar.day in days


def _earlier_editions(sink: Sink, contract: Contract, world: World) -> Iterator[dict[str, Any]]:
    """The files of the years before, as an earlier installation kept them: they cannot be asked for any more."""
    years = range(world.first.year - 1, world.last.year + 1)
    for year, period in ((year, period) for period in world.periods for year in years):
        # The day on which it was to be asked for.
        day = date(year, 1, 3)
        if not world.covers(period, day) or (period.serial is not None and year >= world.first.year):
            continue
        body, rows = open_data.edition_file(year), len(csd.edition(year))
        key = f"{contract.drop_prefix}{day}/B2XX0023{year}XXXXB0100.csv"
        sent = datetime.combine(day, time.fromisoformat(contract.calendar.due), HONG_KONG)
        sink.put(key, body, {"synthetic": "true", "seed": str(world.seed), "sent-at": sent.isoformat()})
        yield {
            "feed": contract.feed, "business_date": str(day), "key": key, "expected": "published",
            "events": ["history"], "rows_in": rows, "rows_quarantined": 0, "rows_duplicate": 0, "rows_published": rows,
        }  # fmt: skip


def _asked(contract: Contract, world: World, servers: open_data.OpenData, day: date) -> dict[str, Any]:
    """What the simulated API answers when it is asked for a business date as the contract says."""
    if contract.feed != "hkma_exchange_rates":
        return _answered(contract, day, servers.expected(contract.feed, day))
    earliest = str(contract.source.requests[0].parameters["from"])
    back = int(earliest.strip("{}").removeprefix("business_date") or 0)
    return _answered(contract, day, len(hkma.records(world.seed, day + timedelta(days=back), day)))


def _answered(contract: Contract, day: date, rows: int) -> dict[str, Any]:
    return {
        "feed": contract.feed, "business_date": str(day), "expected": "published", "events": ["api"], "rows_in": rows,
        "rows_quarantined": 0, "rows_duplicate": 0, "rows_published": rows,
    }  # fmt: skip


# --- one delivery -----------------------------------------------------------------------------------------------------


def _deliveries(
    contract: Contract, world: World, period: Period, day: date, frame: pl.DataFrame, faults: Faults
) -> Iterator[Delivery | dict[str, Any]]:
    """The objects of one feed and business date: none when it is missing, two when it is sent again or corrected."""
    generator = world.rng("faults", contract.feed, day)
    event = faults.event(contract.feed, period.serial, generator)
    if contract.source.format == "fixed" and event in ("renamed", "added", "amended"):
        # Such a file has no headings, and no text to correct.
        event = None
    if event == "missing":
        yield {
            "feed": contract.feed,
            "business_date": str(day),
            "expected": "missing",
            "events": ["missing"],
            "rows_lost": len(frame),
        }
        return
    draft = _Draft(contract, day, frame, generator)
    if event == "held" and len(frame) < SMALLEST_HELD:
        event = None
    extra = {"annotation": "annotation"} if event == "added" else {}
    if event == "renamed":
        broken = draft.deliver(faults, [event], renamed=True)
        yield broken
        yield draft.deliver(faults, ["correction"], suffix="_R1", hours=5)
        return
    if event == "held":
        yield draft.deliver(faults, [event], dirty_share=max(3 * contract.budget, 0.3))
        yield draft.deliver(faults, ["correction"], suffix="_R1", hours=26)
        return
    own = [event] if event in ("late", "added", "truncated") else []
    regular = draft.deliver(faults, own, extra=extra, days_late=2 if event == "late" else 0)
    if event == "truncated":
        yield _truncated(contract, regular)
        regular.file, regular.events = shapes.file_name(contract.feed, day, "_R1"), ["correction"]
        regular.sent_at += timedelta(hours=4)
    yield regular
    if event in ("repeated", "resent"):
        again = Delivery(
            feed=regular.feed, business_date=day, file=regular.file if event == "resent" else f"Copy of {regular.file}",
            body=regular.body, sent_at=regular.sent_at + timedelta(hours=3), expected="known", events=[event],
        )  # fmt: skip
        yield again
    if event == "amended" and (amended := draft.amended(faults)) is not None:
        yield amended


class _Draft:
    """A clean delivery of a feed and date, from which the ones with faults are made."""

    def __init__(self, contract: Contract, day: date, frame: pl.DataFrame, generator: np.random.Generator) -> None:
        self.contract, self.day, self.generator = contract, day, generator
        by_source = shapes.headings(contract, day)
        self.heading = {column.name: by_source[column.source_name] for column in contract.columns}
        # Partners that have a column under the contract's name and not its heading are put right here.
        names = {column.name: column.source_name for column in contract.columns}
        frame = frame.rename({old: new for old, new in names.items() if old in frame.columns and old != new})
        self.frame = frame.select([c.source_name for c in contract.columns]).rename(by_source)

    def amended(self, faults: Faults) -> Delivery | None:
        """The same rows, a few of them corrected, sent some hours later; None when none has a text to correct."""
        columns = (
            c
            for c in self.contract.stored
            if c.type == "text" and "maxLength" in c.options and c.name not in self.contract.key
        )
        if (column := next(columns, None)) is None:
            return None
        name, count = self.heading[column.name], len(self.frame)
        written = self.frame[name].is_not_null().to_numpy()
        if not written.any():
            return None
        chosen = written & (self.generator.random(count) < max(0.02, 1.5 / count))
        chosen[np.flatnonzero(written)[0]] |= not chosen.any()
        text = pl.col(name).str.slice(0, column.options["maxLength"] - 12) + " (corrected)"
        rows = self.frame.with_columns(pl.when(pl.Series(chosen)).then(text).otherwise(pl.col(name)).alias(name))
        draft = _Draft.__new__(_Draft)
        draft.contract, draft.day, draft.generator, draft.heading, draft.frame = (
            self.contract,
            self.day,
            self.generator,
            self.heading,
            rows,
        )
        return draft.deliver(faults, ["amended"], suffix="_R1", hours=7)

    def deliver(
        self,
        faults: Faults,
        events: list[str],
        *,
        suffix: str = "",
        hours: int = 0,
        days_late: int = 0,
        dirty_share: float | None = None,
        renamed: bool = False,
        extra: dict[str, str] | None = None,
    ) -> Delivery:
        contract, frame, generator = self.contract, self.frame, self.generator
        if extra:
            frame = frame.with_columns(pl.lit("note of the partner").alias(name) for name in extra)
        count = len(frame)
        dirty, repeated, contradicting = self._chosen(count, faults, dirty_share)
        touched = [*dirty, *repeated, *contradicting]
        typed = contract.source.format not in shapes.TEXT_FORMATS
        lines = [] if typed else shapes.lines_of(contract, frame)
        rows_of: Callable[[Iterable[int]], list[dict[str, Any]]]
        if typed:

            def rows_of(chosen: Iterable[int]) -> list[dict[str, Any]]:
                return [frame.row(index, named=True) for index in chosen]
        else:

            def rows_of(chosen: Iterable[int]) -> list[dict[str, Any]]:
                return [shapes.parse(contract, frame.columns, lines[index]) for index in chosen]

        spoiler = Spoiler(contract, self.day, self.heading, generator)
        sample = rows_of(range(0, count, max(1, count // 60))) if dirty else []
        spoilt = spoiler.spoil(rows_of(dirty), sample)
        others = [fault.contradict(contract, self.heading, row) for row in rows_of(contradicting)]
        first = shapes.first_line(contract)
        marks = [
            {
                "line": first + index,
                "kind": item.spoiling.kind,
                "column": item.spoiling.column,
                "rule": item.spoiling.rule,
            }
            for index, item in zip(dirty, spoilt, strict=True)
        ]
        base = first + count + len(repeated)
        for offset, index in enumerate(contradicting):
            for line in (first + index, base + offset):
                marks.append(
                    {"line": line, "kind": "contradicting", "column": None, "rule": "primary_key.contradicting_rows"}
                )
        if typed:
            table = frame.to_dicts()
            for index, item in zip(dirty, spoilt, strict=True):
                table[index] = item.row or {}
            body = shapes.typed_bytes(
                contract, [*table, *rows_of(repeated), *others], self._names(frame, renamed), dict(frame.schema)
            )
        else:
            for index, item in zip(dirty, spoilt, strict=True):
                lines[index] = item.raw if item.raw is not None else shapes.line_of(contract, item.row or {})
            if renamed and contract.source.format == "jsonl":
                lines = [line.replace(*self._renaming(frame)) for line in lines]
            tail = [shapes.line_of(contract, row) for row in [*rows_of(repeated), *others]]
            body = shapes.text_bytes(contract, self._names(frame, renamed), [*lines, *tail])
        total = count + len(repeated) + len(contradicting)
        quarantined = len(dirty) + 2 * len(contradicting)
        held, reason = self._held(total, quarantined, renamed, extra or {})
        kept = np.ones(count, dtype=bool)
        kept[[*dirty, *contradicting]] = False
        clean = frame.with_columns(_line=pl.Series(np.arange(count) + first, dtype=pl.Int64)).filter(pl.Series(kept))
        return Delivery(
            feed=contract.feed,
            business_date=self.day,
            file=shapes.file_name(contract.feed, self.day, suffix),
            body=body,
            sent_at=fault.moment(contract.calendar, self.day, days_late) + timedelta(hours=hours),
            expected="held" if held else "published",
            reason=reason,
            events=[*events, *(["dirty"] if touched else [])],
            rows_in=None if reason and reason.startswith("delivery.") else total,
            rows_quarantined=quarantined,
            rows_duplicate=len(repeated),
            rows_published=0 if held else count - len(dirty) - len(contradicting),
            dirty=[] if renamed or (held and reason != "batch.rejection_budget") else marks,
            clean=None if held else self._contractual(clean, extra or {}),
        )

    def _names(self, frame: pl.DataFrame, renamed: bool) -> list[str]:
        """Headings; with `renamed` a required one is other than announced."""
        if not renamed:
            return frame.columns
        victim = self.heading[next(c.name for c in self.contract.columns if c.required)]
        return [f"{name}_new" if name == victim else name for name in frame.columns]

    def _renaming(self, frame: pl.DataFrame) -> tuple[bytes, bytes]:
        """The key of a JSON record that is other than announced, before and after."""
        pairs = zip(frame.columns, self._names(frame, True), strict=True)
        old, new = next((old, new) for old, new in pairs if old != new)
        return f'"{old}":'.encode(), f'"{new}":'.encode()

    def _held(self, total: int, quarantined: int, renamed: bool, extra: dict[str, str]) -> tuple[bool, str | None]:
        if renamed and self.contract.drift != "fail":
            return True, "delivery.header_missing_column"
        if renamed:
            return True, "delivery.header_unknown_column"
        if extra and self.contract.drift == "fail":
            return True, "delivery.header_unknown_column"
        if not total and self.contract.calendar.empty == "hold":
            return True, "delivery.no_rows"
        if quarantined > self.contract.budget * total:
            return True, "batch.rejection_budget"
        return False, None

    def _chosen(self, count: int, faults: Faults, dirty_share: float | None) -> tuple[list[int], list[int], list[int]]:
        """Rows to spoil, to repeat and to contradict; without `dirty_share`, within half of the contract's budget."""
        room = int(count * self.contract.budget / 2)
        wanted = self.generator.binomial(count, [faults.dirty, faults.duplicate, faults.contradicting])
        if dirty_share is not None:
            # Enough to show every kind, where there are rows enough.
            kinds = len(fault.inventory(self.contract))
            dirty = min(count, max(int(np.ceil(count * dirty_share)), kinds))
        else:
            # A delivery with room for it has at least one bad row, or small feeds would have none.
            dirty = min(max(int(wanted[0]), int(faults.dirty > 0)), room)
        contradicting = min(int(wanted[2]), max(0, (room - dirty) // 2))
        repeated = min(int(wanted[1]), count - dirty - contradicting)
        order = [int(index) for index in self.generator.permutation(count)[: dirty + repeated + contradicting]]
        return sorted(order[:dirty]), sorted(order[dirty : dirty + repeated]), sorted(order[dirty + repeated :])

    def _contractual(self, clean: pl.DataFrame, extra: dict[str, str]) -> pl.DataFrame:
        """Rows under the names of the contract, without what it drops and what it does not know."""
        names = {self.heading[column.name]: column.name for column in self.contract.stored}
        return clean.drop(extra).select(["_line", *names]).rename(names)


def _truncated(contract: Contract, regular: Delivery) -> Delivery:
    """The first part of a delivery, as when a connection breaks off."""
    if contract.source.format in shapes.TEXT_FORMATS and contract.source.compression == "none":
        lines = regular.body.splitlines(keepends=True)
        keep = max(2, len(lines) * 2 // 3)
        body = b"".join(lines[: keep - 1]) + lines[keep - 1][: max(4, len(lines[keep - 1]) // 3)]
        broken = {"csv": "record.too_few_fields", "jsonl": "record.not_json", "fixed": "record.too_short"}
        expected, reason = "unknown", broken[contract.source.format]
    else:
        body = regular.body[: len(regular.body) * 2 // 3]
        expected = "held"
        whole = contract.source.compression == "none"
        reason = "delivery.corrupt" if whole else "delivery.truncated"
    return Delivery(
        feed=regular.feed, business_date=regular.business_date, file=regular.file, body=body, sent_at=regular.sent_at,
        expected=expected, reason=reason, events=["truncated"],
    )  # fmt: skip


# --- the record of what was planted -----------------------------------------------------------------------------------


class _Record:
    """Collects what was planted and writes it to the folder `truth`."""

    def __init__(self, folder: Path, keep: bool, more: bool) -> None:
        self.folder, self.keep, self.more = folder, keep, more
        self.planted: list[dict[str, Any]] = []
        self.dirty: list[dict[str, Any]] = []
        self.clean: dict[str, list[pl.DataFrame]] = {}

    def add(self, entry: dict[str, Any]) -> None:
        self.planted.append(entry)

    def delivered(self, contract: Contract, delivery: Delivery) -> None:
        entry = {name: value for name, value in vars(delivery).items() if name not in ("body", "dirty", "clean")}
        place = {"feed": delivery.feed, "business_date": str(delivery.business_date), "sha256": delivery.sha256}
        key = f"{contract.drop_prefix}{delivery.business_date}/{delivery.file}"
        self.planted.append(
            entry | place | {"key": key, "bytes": len(delivery.body), "sent_at": delivery.sent_at.isoformat()}
        )
        self.dirty += [place | {"file": delivery.file} | mark for mark in delivery.dirty]
        if self.keep and delivery.clean is not None:
            frame = delivery.clean.with_columns(
                pl.lit(delivery.business_date).alias("_business_date"), pl.lit(place["sha256"]).alias("_sha256")
            )
            self.clean.setdefault(delivery.feed, []).append(frame)

    def finish(self, world: World, feeds: list[str]) -> None:
        with (self.folder / "planted.jsonl").open("a" if self.more else "w") as file:
            file.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in self.planted)
        (self.folder / "README.txt").write_text(README)
        marks = dict.fromkeys(("feed", "business_date", "sha256", "file"), pl.String) | {
            "line": pl.Int64, "kind": pl.String, "column": pl.String, "rule": pl.String,
        }  # fmt: skip
        self._write(self.folder / "dirty.parquet", [pl.DataFrame(self.dirty, schema=marks)])
        (self.folder / "published").mkdir(exist_ok=True)
        for feed, frames in self.clean.items():
            self._write(self.folder / "published" / f"{feed}.parquet", frames)
        _write_world(self.folder, world, feeds)

    def _write(self, path: Path, frames: list[pl.DataFrame]) -> None:
        """Write a table, after the rows that are there already when the record goes on."""
        if self.more and path.exists():
            frames = [pl.read_parquet(path), *frames]
        pl.concat(frames, how="vertical_relaxed").write_parquet(path)


def _write_world(folder: Path, world: World, feeds: list[str]) -> None:
    """What is true behind the deliveries: population, applications, policies, whose shop is which, planted effects."""
    tables = {
        "smes": world.population.smes,
        "individuals": world.population.individuals,
        "applications": tid.applications(world).filter(pl.col("received_on") <= world.last),
        "policies": hkecic.policies(world),
        "policy_reports": hkecic.reports(world).filter(pl.col("on") <= number(world.last)),
        "shops": shops(world).with_columns(opens=pl.Series(opens(world))),
        "participants": hktdc.participants(world),
        "certificates": marks.certificates(world),
        "consents": cdi.consents(world).filter(pl.col("granted_on") <= world.last),
        "financing_requests": cdi.requests(world).filter(pl.col("asked_on") <= world.last),
        "gallery_items": gallery.items(world),
        "missions": gallery.missions(world),
        "hkhs_changes": pl.DataFrame(words.HKHS_CHANGES, schema=["code_before", "code_since", "share"], orient="row"),
        "personal": _personal(world),
    }
    # Computed from the declarations of more than a year: only on demand.
    if any(feed.startswith(("csd_", "comtrade_")) for feed in feeds):
        tables |= {
            "statistics": csd.trade(world),
            "published_statistics": csd.published(world),
            "mirror": csd.mirror(world),
            "insured_exports": csd.insured(world),
        }
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")
    effects = {
        "exports_growth_a_year": customs.GROWTH_A_YEAR,
        "exports_funded": world.effects.exports_funded,
        "orders_funded_ecommerce_easy": world.effects.orders_funded,
        "orders_festival": platforms.FESTIVAL_UPLIFT,
        "orders_festival_other_shops": platforms.FESTIVAL_SPILL,
        "orders_retained_by_days": platforms.RETAINED_UPLIFT,
        "orders_live_stream": platforms.LIVE_UPLIFT,
        "refunded_under_a_mark": platforms.REFUNDED_UNDER_A_MARK,
        "shops_bonded": BONDED_SHOPS,
        "gallery_festival": gallery.FESTIVAL_UPLIFT,
        "gallery_suppliers_going_on": GOES_ON,
        "marks_borrowed": hktdc.BORROWED,
        "policies_cancelled": hkecic.CANCELLED,
        "policies_endorsed": hkecic.ENDORSED,
        "policies_corrected": hkecic.CORRECTED,
        "exporters_stopping_a_year": customs.STOP_A_YEAR,
        "lodged_after_days_off": customs.DUE_ON_DAYS_OFF,
        "refunds_asked_again": platforms.ASKS_AGAIN,
        "mirrored_after_days": csd.MIRRORED_AFTER,
        "enterprises_connected": CONNECTED,
        "marks_claimed_expired": marks.CLAIMED_EXPIRED,
        "marks_claimed_unknown": marks.CLAIMED_UNKNOWN,
        "loans_approved": cdi.APPROVED,
        "loans_approved_with_declarations": cdi.APPROVED_WITH_DECLARATIONS,
        "statistics_on_top": csd.ESTIMATED_ON_TOP,
        "mirrored_share": csd.MIRRORED,
        "insured_on_top": csd.INSURED_ON_TOP,
        "seed": world.seed,
        "first_day": str(world.first),
        "last_day": str(world.last),
        "feeds": feeds,
    }
    (folder / "effects.json").write_text(json.dumps(effects, indent=1) + "\n")


def _personal(world: World) -> pl.DataFrame:
    """Personal data that deliveries contain and no table may: where to look for leaks."""
    sources = (
        ("customs_declarations", "trader_id", world.population.individuals["hkid"]),
        ("business_register", "owner_name", world.population.smes["owner_name"]),
        ("funding_applications", "contact_name", tid.applications(world)["contact_name"]),
        ("funding_applications", "contact_phone", tid.applications(world)["contact_phone"]),
        ("funding_payments", "payee_account_no", tid.payments(world)["payee_account_no"]),
        ("hkecic_policies", "contact_phone", hkecic.policies(world)["contact_phone"]),
        ("festival_participants", "contact_phone", hktdc.participants(world)["contact_phone"]),
        ("trade_missions", "contact_name", gallery.missions(world)["contact_name"]),
        ("trade_missions", "contact_email", gallery.missions(world)["contact_email"]),
        ("cdi_consents", "signatory_name", cdi.consents(world)["signatory_name"]),
        ("cdi_financing_requests", "officer_name", cdi.requests(world)["officer_name"]),
    )
    parts = [
        pl.DataFrame({"feed": feed, "column": column, "value": values.drop_nulls().unique(maintain_order=True)})
        for feed, column, values in sources
    ]
    return pl.concat(parts)
