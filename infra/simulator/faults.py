"""What goes wrong, derived from the contract: how a row can break each rule, and what befalls whole deliveries."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from sampan.calendar import HONG_KONG, is_business_day
from sampan.contracts.model import Calendar, Column, Contract

from infra.simulator.population import hkids
from infra.simulator.shapes import TEXT_FORMATS, line_of

WRONG_TYPE = {
    "bigint": ("12x", "1,234", "3.5"),
    "numeric": ("1,234.50", "n/a", "12.3.4"),
    "date": ("2026-02-30", "2026-13-01", "31/12/2026 noon"),
    "timestamptz": ("2026-07-32 10:00:00", "2026-07-06 25:61:00"),
    "boolean": ("maybe", "2"),
}
PSEUDONYM = f"p1_{'0' * 64}"
# What befalls a whole delivery, in the order in which it is decided; at most one of them.
EVENTS = ("missing", "late", "truncated", "held", "renamed", "added", "repeated", "resent", "amended")


# After so many business dates the planned faults come again.
CYCLE = 15


@dataclass(frozen=True)
class Faults:
    """Rates of faults. `dirty`, `duplicate` and `contradicting` are per row, the others per delivery.

    `plan` names what surely happens: feed, share of CYCLE business dates after which it does, each time, and event.
    """

    dirty: float = 0.0
    duplicate: float = 0.0
    contradicting: float = 0.0
    missing: float = 0.0
    late: float = 0.0
    truncated: float = 0.0
    held: float = 0.0
    renamed: float = 0.0
    added: float = 0.0
    repeated: float = 0.0
    resent: float = 0.0
    amended: float = 0.0
    plan: tuple[tuple[str, float, str], ...] = ()

    def event(self, feed: str, serial: int | None, generator: np.random.Generator) -> str | None:
        """What befalls the delivery for the business date with a serial number, or None. The history has no such fault."""
        if serial is None:
            return None
        drawn = generator.random(len(EVENTS))
        for planned, share, event in self.plan:
            if planned == feed and serial % CYCLE == int(share * CYCLE):
                return event
        for event, chance in zip(EVENTS, drawn, strict=True):
            if chance < getattr(self, event):
                return event
        return None


NONE = Faults()
DEFAULT = Faults(
    dirty=0.004,
    duplicate=0.001,
    contradicting=0.0003,
    plan=(
        ("customs_declarations", 0.27, "truncated"),
        ("customs_declarations", 0.70, "amended"),
        ("business_register", 0.50, "resent"),
        ("funding_applications", 0.34, "late"),
        ("hkecic_policies", 0.60, "amended"),
        ("festival_participants", 0.40, "held"),
        ("hkecic_shipments", 0.77, "added"),
        ("festival_participants", 0.57, "missing"),
        ("platform_orders", 0.30, "repeated"),
        ("platform_orders", 0.47, "added"),
        ("cdi_consents", 0.64, "resent"),
        ("design_gallery_sales", 0.37, "late"),
        ("platform_traffic", 0.54, "amended"),
        ("quality_marks", 0.84, "repeated"),
    ),
)


def parse(text: str) -> Faults:
    """Faults from `none`, `default` or `dirty=0.01,late=0.1`; a name not given keeps its default of no fault."""
    if text in ("none", "default"):
        return NONE if text == "none" else DEFAULT
    rates = {item.name for item in fields(Faults)} - {"plan"}
    values = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name not in rates:
            raise ValueError(f"no fault {name!r}; faults: none, default, {', '.join(sorted(rates))}")
        values[name] = float(value)
    return replace(NONE, **values)


@dataclass(frozen=True)
class Spoiling:
    """One way to spoil a row: its kind, the column it touches (None for the whole record), the rule that it breaks."""

    kind: str
    column: str | None
    rule: str


@dataclass
class Spoilt:
    """A spoilt row: `line` of its delivery, filled in by the caller, and what was done to it."""

    spoiling: Spoiling
    row: dict[str, Any] | None = None
    raw: bytes | None = None
    line: int = field(default=0)


@cache
def _inventory(feed: str) -> tuple[Spoiling, ...]:
    from sampan.contracts.registry import get_contract

    return tuple(inventory(get_contract(feed)))


def inventory(contract: Contract) -> list[Spoiling]:
    """Every way in which a row of this contract can go wrong in its format."""
    found = []
    typed = contract.source.format == "parquet"
    if contract.source.format == "csv":
        found += [
            Spoiling(kind, None, f"record.{kind}") for kind in ("too_few_fields", "too_many_fields", "unclosed_quote")
        ]
    if contract.source.format == "jsonl":
        found += [Spoiling(kind, None, f"record.{kind}") for kind in ("not_json", "not_an_object")]
    if contract.source.format == "fixed":
        found += [Spoiling(kind, None, f"record.{kind}") for kind in ("too_short", "too_long")]
    if contract.source.format in TEXT_FORMATS:
        found += [Spoiling("nul", None, "record.nul"), Spoiling("encoding", None, "record.encoding")]
    for column in contract.stored:
        found += [Spoiling(kind, column.name, f"{column.name}.{rule}") for kind, rule in _column_kinds(column, typed)]
    found += [
        Spoiling("row_rule", None, rule.name) for rule in contract.row_rules if rule.severity in ("critical", "error")
    ]
    return found


def _column_kinds(column: Column, typed: bool) -> list[tuple[str, str]]:
    """Kinds of bad value of a column with the rule that each breaks; `typed` formats cannot hold a wrong type."""
    found, options = [], column.options
    if column.required:
        found.append(("missing", "required"))
    if column.type != "text" and not typed:
        found.append(("wrong_type", "type"))
    if column.type == "numeric" and not typed:
        found.append(("not_a_number", "finite"))
        if column.scale is not None:
            found.append(("too_precise", "scale"))
    if column.enum:
        found.append(("unknown_code", "enum"))
    if "pattern" in options:
        found.append(("malformed", "pattern"))
        if column.expects_hkid:
            found.append(("hkid", "pattern"))
    if "maxLength" in options:
        found.append(("too_long", "max_length"))
    if "minimum" in options or "exclusiveMinimum" in options:
        found.append(("too_low", "minimum"))
    if "maximum" in options:
        found.append(("too_high", "maximum"))
    return found


class Spoiler:
    """Spoils rows of one delivery. `heading` gives the delivery's heading of a column."""

    def __init__(self, contract: Contract, day: date, heading: dict[str, str], generator: np.random.Generator) -> None:
        self.contract, self.day, self.heading, self.generator = contract, day, heading, generator
        self.typed = contract.source.format not in TEXT_FORMATS

    def spoil(self, rows: list[dict[str, Any]], sample: list[dict[str, Any]]) -> list[Spoilt]:
        """One spoilt row per given one, kinds in turn from a random start; `sample` lends values that fit."""
        kinds = _inventory(self.contract.feed)
        # Kinds in a fixed shuffled order, begun anywhere: a few deliveries together show all of them.
        order = np.random.default_rng(len(kinds)).permutation(len(kinds))
        start = int(self.generator.integers(len(kinds)))
        wanted = [kinds[order[(start + turn) % len(kinds)]] for turn in range(len(rows))]
        ruled = [position for position, spoiling in enumerate(wanted) if spoiling.kind == "row_rule"]
        broken = self._break_rules([rows[p] for p in ruled], [wanted[p].rule for p in ruled], sample)
        by_position = dict(zip(ruled, broken, strict=True))
        return [
            by_position.get(position) or self._value(spoiling, row)
            for position, (spoiling, row) in enumerate(zip(wanted, rows, strict=True))
        ]

    def _value(self, spoiling: Spoiling, row: dict[str, Any]) -> Spoilt:
        if spoiling.kind == "row_rule":
            # Nothing in reach breaks that rule in that row: a missing key is always in reach.
            key = self.contract.key[0]
            spoiling = Spoiling("missing", key, f"{key}.required")
        if spoiling.column is None:
            return self._record(spoiling, row)
        column = self.contract.column(spoiling.column)
        name = self.heading[column.name]
        return Spoilt(spoiling, {**row, name: self._bad(spoiling.kind, column, row[name])})

    def _bad(self, kind: str, column: Column, value: Any) -> Any:
        options = column.options
        if kind == "missing":
            return None
        if kind == "wrong_type":
            return str(self.generator.choice(WRONG_TYPE[column.type]))
        if kind == "not_a_number":
            return "NaN"
        if kind == "too_precise":
            return "12.3456789" if float(options.get("minimum", 0)) <= 12 else f"{options['minimum']}.3456789"
        if kind == "unknown_code":
            return "not_a_code"[: column.length]
        if kind == "too_long":
            return "x" * (options["maxLength"] + 1)
        if kind == "hkid":
            return self._hkid(options["pattern"])
        if kind == "malformed":
            return _malformed(options["pattern"], value, column.length)
        bound = options["maximum"] if kind == "too_high" else options.get("minimum", options.get("exclusiveMinimum"))
        step = 1 if kind == "too_high" else -1
        if column.type in ("date", "timestamptz"):
            day = date.fromisoformat(str(bound)[:10]) + timedelta(days=step)
            if self.typed:
                return day
            return str(day) if column.type == "date" else f"{day}T12:00:00+08:00"
        moved = bound if "exclusiveMinimum" in options and step < 0 else bound + step
        kind_of_value = float if column.type == "numeric" else int
        return kind_of_value(moved) if self.typed else str(moved)

    def _hkid(self, pattern: str) -> str:
        """An HKID number: a right one, or where pseudonyms of those are welcome one with a wrong check digit."""
        number = str(hkids(self.generator, 1)[0])
        if re.search(pattern, PSEUDONYM) is None:
            return number
        wrong = next(digit for digit in "0123456789" if digit != number[-2])
        return f"{number[:-2]}{wrong})"

    def _record(self, spoiling: Spoiling, row: dict[str, Any]) -> Spoilt:
        line = line_of(self.contract, row)
        if spoiling.kind == "too_few_fields":
            return Spoilt(spoiling, raw=line_of(self.contract, dict(list(row.items())[:-2])))
        if spoiling.kind == "too_short":
            return Spoilt(spoiling, raw=line[:-2])
        if spoiling.kind == "too_long":
            return Spoilt(spoiling, raw=line + b"surplus")
        if spoiling.kind == "too_many_fields":
            return Spoilt(spoiling, raw=line + b",surplus")
        if spoiling.kind == "not_json":
            return Spoilt(spoiling, raw=line[: len(line) // 2])
        if spoiling.kind == "not_an_object":
            return Spoilt(spoiling, raw=b'["not", "an", "object"]')
        marked = line_of(self.contract, {**row, self._writable(row): "@@"})
        if spoiling.kind == "unclosed_quote":
            return Spoilt(spoiling, raw=marked.replace(b"@@", b'"never closed'))
        return Spoilt(spoiling, raw=marked.replace(b"@@", b"a\x00b" if spoiling.kind == "nul" else b"a\xffb"))

    def _writable(self, row: dict[str, Any]) -> str:
        """Heading of a text column to write into, one without a code list or a pattern where there is one."""
        texts = [column for column in self.contract.stored if column.type == "text" and row[self.heading[column.name]]]
        free = [column for column in texts if not column.enum and "pattern" not in column.options]
        return self.heading[(free or texts)[-1].name]

    # --- row rules ---

    def _break_rules(
        self, rows: list[dict[str, Any]], rules: list[str], sample: list[dict[str, Any]]
    ) -> list[Spoilt | None]:
        """Each row changed in one or two columns so that it breaks its rule and, where that can be, no other."""
        if not rows:
            return []
        import duckdb

        predicates = {rule.name: rule.predicate or "" for rule in self.contract.row_rules}
        candidates: list[dict[str, Any]] = []
        origin: list[int] = []
        for position, (row, rule) in enumerate(zip(rows, rules, strict=True)):
            for changed in self._candidates(row, predicates[rule], sample):
                candidates.append(changed)
                origin.append(position)
        stored = self.contract.stored
        table = pl.DataFrame(
            {c.name: [_text(candidate[self.heading[c.name]], c) for candidate in candidates] for c in stored},
            schema=dict.fromkeys((c.name for c in stored), pl.String),
        )
        kinds = {"bigint": "integer", "numeric": "double", "timestamptz": "timestamp", "text": "varchar"}
        casts = ", ".join(f"try_cast({c.name} as {kinds.get(c.type, c.type)}) as {c.name}" for c in stored)
        tests = ", ".join(f'coalesce(({predicate}), true) as "{name}"' for name, predicate in predicates.items())
        with duckdb.connect() as connection:
            connection.register("candidates", table.to_arrow())
            typed = f"select {casts}, date '{self.day}' as business_date from candidates"
            holds = connection.execute(f"select {tests} from ({typed})").fetchnumpy()
        names = list(predicates)
        held = (
            np.stack([np.asarray(holds[name], dtype=bool) for name in names], axis=1)
            if candidates
            else np.zeros((0, len(names)))
        )
        result: list[Spoilt | None] = []
        for position, rule in enumerate(rules):
            mine = [i for i, owner in enumerate(origin) if owner == position and not held[i, names.index(rule)]]
            mine.sort(key=lambda i: int((~held[i]).sum()))
            result.append(Spoilt(Spoiling("row_rule", None, rule), candidates[mine[0]]) if mine else None)
        return result

    def _candidates(self, row: dict[str, Any], predicate: str, sample: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The row with other values, each fit for its column, in one or two of the columns that a predicate names."""
        literals = re.findall(r"'([^']*)'", predicate)
        named = set(re.findall(r"[a-z_][a-z0-9_]*", re.sub(r"'[^']*'", "", predicate)))
        columns = [c for c in self.contract.stored if c.name in named and c.name not in self.contract.key[:1]]
        options = {
            self.heading[c.name]: self._alternatives(c, row[self.heading[c.name]], literals, sample) for c in columns
        }
        single = [{**row, name: value} for name, values in options.items() for value in values]
        names = list(options)
        double = [
            {**row, first: one, second: two}
            for index, first in enumerate(names)
            for second in names[index + 1 :]
            for one in options[first][:8]
            for two in options[second][:8]
        ]
        return single + double

    def _alternatives(self, column: Column, value: Any, literals: list[str], sample: list[dict[str, Any]]) -> list[Any]:
        found: list[Any] = [] if column.required else [None]
        if column.enum:
            return (
                found
                + [code for code in column.enum if code in literals]
                + [code for code in column.enum if code not in literals]
            )
        lent = {row[self.heading[column.name]] for row in sample} - {None, value}
        found += sorted(lent, key=str)[:4]
        if column.type == "text":
            if column.expects_hkid and re.search(column.options.get("pattern", ""), PSEUDONYM):
                return [*found, str(hkids(self.generator, 1)[0])]
            if "pattern" in column.options:
                return found + [word for word in literals if re.search(column.options["pattern"], word)]
            return [*found, "ANOTHER VALUE"]
        if column.type == "boolean":
            return [*found, not value] if self.typed else found
        if column.type == "date":
            base = value or self.day
            base = base if isinstance(base, date) else date.fromisoformat(str(base)[:10])
            moved = [base + timedelta(days=days) for days in (-900, -40, 40, 900)]
            moved = [
                day
                for day in moved
                if str(column.options.get("minimum", "")) <= str(day) <= str(column.options.get("maximum", "9"))
            ]
            return found + (moved if self.typed else [str(day) for day in moved])
        if column.type == "timestamptz":
            text = str(value) if value else f"{self.day} 12:00:00"
            return found + [
                str(date.fromisoformat(text[:10]) + timedelta(days=days)) + text[10:] for days in (-900, -40, 40, 900)
            ]
        number = float(value or 1)
        moved_numbers = [round(number * 3 + 1, 2), round(number / 3, 2), number + 5, 75.0]
        low, high = column.options.get("minimum", 0.01), column.options.get("maximum", 1e12)
        fit = [n if column.type == "numeric" else int(n) for n in moved_numbers if low <= n <= high]
        return found + (fit if self.typed else [str(n) for n in fit])


def _text(value: Any, column: Column) -> str | None:
    """A value as the text that the rules' columns are cast from; times without offset, HKIDs as pseudonyms."""
    if value is None:
        return None
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if column.type == "timestamptz":
        return re.sub(r"[+-]\d\d:\d\d$", "", text)
    if column.expects_hkid and re.fullmatch(r"[A-Z]{1,2}[0-9]{6}\([0-9A]\)", text):
        return PSEUDONYM
    return text


def _malformed(pattern: str, value: Any, width: int | None) -> str:
    """A value near the given one that does not match, no wider than its field: a character lost, added or foreign."""
    text = str(value) if value is not None else "0"
    near = (text[1:], f"{text}9", f"{text[:-1]}?", f"{text}?")
    return next(o for o in near if o and re.search(pattern, o) is None and len(o) <= (width or len(o)))


def contradict(contract: Contract, heading: dict[str, str], row: dict[str, Any]) -> dict[str, Any]:
    """The same key with another content that breaks no rule."""
    for column in contract.stored:
        name = heading[column.name]
        if column.type == "text" and "maxLength" in column.options and column.name not in contract.key and row[name]:
            return {**row, name: f"{str(row[name])[: column.options['maxLength'] - 4]} (2)"}
    # The last one: where figures stand in rows, what is summed up comes after its parts.
    numeric = [c for c in contract.stored if c.type == "numeric" and c.name not in contract.key and c.required][-1]
    name = heading[numeric.name]
    value = row[name]
    return {**row, name: f"{float(value) + 1:.2f}" if isinstance(value, str) else value + 1}


def due_times(calendar: Calendar, after: datetime, until: datetime) -> list[datetime]:
    """When an API is to be asked between two times: on each of its days, a weekly or monthly one on the next business day."""
    found = []
    for step in range((until.date() - after.date()).days + 1):
        day = after.date() + timedelta(days=step)
        due = day if _is_due(calendar, day) else None
        if calendar.day is not None and is_business_day(day):
            # It was due on this day, or on a day off just before.
            passed = [day - timedelta(days=back) for back in range(10)]
            since = next((place for place, before in enumerate(passed[1:], 1) if is_business_day(before)), 1)
            due = day if any(_is_due(calendar, before) for before in passed[:since]) else None
        at = datetime.combine(due, time.fromisoformat(calendar.due), HONG_KONG) if due else None
        if at is not None and after < at <= until:
            found.append(at)
    return found


def _is_due(calendar: Calendar, day: date) -> bool:
    if calendar.days == "business":
        return is_business_day(day)
    return calendar.day in (None, day.isoweekday() if calendar.days == "weekly" else day.day)


def moment(calendar: Calendar, day: date, days_late: int = 0) -> datetime:
    """When a delivery for a business date is sent: a quarter of an hour before it is due.

    It is due on the day after, and of a weekly or monthly feed on the next one of its days.
    """
    due = day + timedelta(days=1)
    while calendar.day and calendar.day != (due.isoweekday() if calendar.days == "weekly" else due.day):
        due += timedelta(days=1)
    on_time = datetime.combine(due, time.fromisoformat(calendar.due), HONG_KONG) - timedelta(minutes=15)
    return on_time + timedelta(days=days_late)
