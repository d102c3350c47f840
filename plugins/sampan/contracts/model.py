"""The contract of a feed, read from an ODCS v3 file: the only list of feeds, and what everything else is derived from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from sampan.settings import HOME

FEEDS = HOME / "expectations" / "feeds"
PARTNERS = HOME / "expectations" / "partners"
SQL_TYPES = {
    "string": "text",
    "integer": "bigint",
    "number": "numeric",
    "date": "date",
    "timestamp": "timestamptz",
    "boolean": "boolean",
}
# Digits of a number whose contract says no scale: a product of two such numbers still fits into 38.
DIGITS = 22
FORMATS = ("csv", "jsonl", "parquet", "xlsx", "fixed")
COMPRESSIONS = ("none", "gzip", "zstd")
CORRECTIONS = ("append", "replace_period", "versioned")
DRIFT = ("fail", "note", "ignore")
PERSONAL = ("none", "drop", "pseudonymise")
SEVERITIES = ("critical", "error", "warning", "info")
IDENTIFIES = ("enterprise_number", "enterprise_name")
# Names of the custom properties that a contract, a server, an API and a column may have.
CONTRACT_PROPERTIES = {"calendar", "rejectionBudget", "schemaDrift", "corrections"}
OPTIONAL_CONTRACT_PROPERTIES = {"alertOnRejected", "openDataSet"}
BOUND_PROPERTIES = {"maxBytes", "maxMemoryBytes", "maxSeconds"}
SERVER_PROPERTIES = {"encoding", "compression", "sheet", "headerRow"} | BOUND_PROPERTIES
REQUEST_PROPERTIES = {
    "format", "baseUrl", "baseUrlVariable", "parameters", "each", "batch", "pagination", "records", "total", "success",
    "failures", "pauseSeconds",
}  # fmt: skip
COLUMN_PROPERTIES = {
    "personalData", "personalDataPattern", "unit", "scale", "start", "length", "stagedAs", "identifies",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column. `type` is the warehouse's, `logical_type` the standard's; `source_name` is the delivery's heading.

    `staged_as` is its name in the staging model. `identifies` is one of IDENTIFIES: the column's number makes an
    enterprise known to the platform, or its text is a name of one.
    """

    name: str
    source_name: str
    logical_type: str
    description: str
    required: bool = False
    key_position: int | None = None
    unit: str | None = None
    scale: int | None = None
    personal: str = "none"
    personal_pattern: str | None = None
    enum: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    start: int | None = None
    length: int | None = None
    staged_as: str = ""
    identifies: str | None = None

    @property
    def type(self) -> str:
        """Type of the column in the warehouse."""
        return SQL_TYPES[self.logical_type]

    @property
    def decimals(self) -> int:
        """How many decimals a number has where its type has to say so. Only for numbers.

        Where the contract says no scale, as of exchange rates with the noise of binary fractions, it says the largest value:
        DIGITS are more than a binary fraction has.
        """
        largest = int(self.options.get("maximum", 10 ** (DIGITS // 2)))
        return DIGITS - len(str(largest)) if self.scale is None else self.scale

    @property
    def primary_key(self) -> bool:
        """True if the column is part of the key."""
        return self.key_position is not None

    @property
    def expects_hkid(self) -> bool:
        """True if a value may be an HKID number, and is personal data only then."""
        return self.personal == "pseudonymise" and self.personal_pattern == "hkid"

    @property
    def wholly_personal(self) -> bool:
        """True if every value is personal data."""
        return self.personal != "none" and not self.expects_hkid


@dataclass(frozen=True)
class Rule:
    """A check. A row rule has a `predicate` that each row must meet; a batch rule an `expectation` with its `kwargs`."""

    name: str
    description: str
    severity: str
    predicate: str | None = None
    expectation: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One request to an API. Paths into its responses are JMESPath expressions.

    `parameters` may hold `{business_date}`, moved by days (`{business_date-45}`) or months (`-13m`) and with a format
    (`{business_date:%Y%m}`).
    `each` multiplies the request: one for every combination of its entries, an entry being a list of parameters or the
    values of a column of another feed. `batch` spreads many values of one parameter over requests of a size.
    `success` says how to recognise a successful response and where a failed one has its message; `failures` maps messages
    to an action of ACTIONS, by the first pattern that matches.
    """

    name: str
    location: str
    base: str = ""
    base_variable: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    each: tuple[Any, ...] = ()
    batch: dict[str, Any] = field(default_factory=dict)
    pagination: dict[str, Any] = field(default_factory=dict)
    records: str = ""
    total: str = ""
    success: dict[str, Any] = field(default_factory=dict)
    failures: tuple[dict[str, str], ...] = ()
    pause_seconds: float = 0.0


@dataclass(frozen=True)
class Bounds:
    """What reading one delivery, or everything that an API returns as of a day, may take.

    `max_bytes` are counted after decompression. `max_memory_bytes` are those of the process that reads a workbook, a
    Parquet file or an API; lines are read in memory of a fixed size. `max_seconds` are those of the processor for lines,
    else of the clock.
    """

    max_bytes: int
    max_memory_bytes: int
    max_seconds: int


# Where a contract names none: by format, and for everything that is read from an API.
DEFAULT_BOUNDS = {
    "csv": Bounds(20_000_000_000, 1 << 30, 3600),
    "jsonl": Bounds(20_000_000_000, 1 << 30, 3600),
    "fixed": Bounds(20_000_000_000, 1 << 30, 3600),
    "xlsx": Bounds(500_000_000, 1 << 30, 300),
    "parquet": Bounds(5_000_000_000, 1 << 31, 1800),
    "api": Bounds(256_000_000, 1 << 30, 1800),
}


@dataclass(frozen=True)
class Source:
    """Where deliveries come from, how they are written, and what reading one may take.

    `kind`: s3 (a drop prefix) or api (HTTP).
    """

    kind: str
    location: str
    format: str
    encoding: str = "utf-8"
    compression: str = "none"
    delimiter: str = ","
    sheet: str | None = None
    header_row: int = 1
    requests: tuple[Request, ...] = ()
    bounds: Bounds = DEFAULT_BOUNDS["csv"]

    @property
    def extension(self) -> str:
        """Ending of a landed file: csv.gz, jsonl.zst, ..."""
        return self.format + {"none": "", "gzip": ".gz", "zstd": ".zst"}[self.compression]

    @property
    def asks_about(self) -> frozenset[str]:
        """Feeds whose published rows supply request parameters."""
        entries = (entry for request in self.requests for entry in request.each)
        return frozenset(entry["feed"] for entry in entries if isinstance(entry, dict))


@dataclass(frozen=True)
class Calendar:
    """When a delivery is due: `days` is business, daily, weekly, monthly or event, `due` HH:MM in `timezone`.

    `day` is the day of the week (1 Monday) of a weekly delivery and the day of the month of a monthly one. `empty` is hold
    or accept: what becomes of a delivery without rows. `unchanged` is alert or accept: whether the owner hears of one that
    has the rows of another date, which is usual where each is the whole list.
    """

    days: str
    due: str
    timezone: str
    missing: str
    empty: str
    deadline_minutes: int = 60
    day: int | None = None
    unchanged: str = "alert"


@dataclass(frozen=True)
class Alias:
    """A header that a partner uses instead of the contract's, since a date."""

    source_name: str
    column: str
    since: date


@dataclass(frozen=True)
class Contract:
    """One feed. Grain and key, columns, source, calendar, rules, budget, drift and correction policy, retention.

    `alert_on_rejected`: a lost row may be bad news (a cessation, a withdrawal), so its owner is alerted of every one.
    `open_data_set`: name of the data set of DATA.GOV.HK that the feed reads, where it is one.
    """

    feed: str
    partner: str
    title: str
    version: str
    description: str
    limitations: str
    usage: str
    owner: str
    contact: str
    grain: str
    columns: tuple[Column, ...]
    source: Source
    calendar: Calendar
    row_rules: tuple[Rule, ...]
    batch_rules: tuple[Rule, ...]
    budget: float
    drift: str
    aliases: tuple[Alias, ...]
    corrections: str
    version_column: str | None
    retention_days: int
    alert_on_rejected: bool
    open_data_set: str | None
    path: Path

    @property
    def key(self) -> tuple[str, ...]:
        """Names of the key's columns, in their order."""
        keyed = sorted((c for c in self.columns if c.key_position is not None), key=lambda c: c.key_position or 0)
        return tuple(c.name for c in keyed)

    @property
    def indexed_key(self) -> tuple[str, ...]:
        """The key's columns as they are indexed: lists of codes, whose values many rows share, last."""
        return tuple(sorted(self.key, key=lambda name: bool(self.column(name).enum)))

    @property
    def stored(self) -> tuple[Column, ...]:
        """Columns that reach a table: all but personal data that is dropped."""
        return tuple(c for c in self.columns if c.personal != "drop")

    @property
    def is_open_in_lake(self) -> bool:
        """True if who reads files, past every rule on rows, may read its rows: no pseudonym and no consent is in them."""
        return not any(column.personal == "pseudonymise" or column.name == "consent_id" for column in self.stored)

    def column(self, name: str) -> Column:
        """The column of a name."""
        return next(c for c in self.columns if c.name == name)

    @property
    def drop_prefix(self) -> str:
        """Prefix of this feed inside the drop bucket."""
        return f"{self.partner}/{self.feed}/"


def custom_properties(items: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Name and value of each custom property of a contract, column or server."""
    return {item["property"]: item["value"] for item in items or []}
