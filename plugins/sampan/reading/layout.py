"""The columns of a delivery against those of its contract: order, aliases, drift."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sampan.contracts.model import Column
from sampan.errors import Code, SampanError
from sampan.reading import limits
from sampan.reading.alike import alike
from sampan.reading.delivery import Delivery
from sampan.reading.shown import hidden


class LayoutGrew(SampanError):
    """A later part of a delivery has keys that its start had not: its layout is that of all lines."""


class Drift(NamedTuple):
    """One difference between a delivery and its contract. `kind`: renamed, missing or unknown."""

    kind: str
    column: str
    detail: str


# What else than the contract's delimiter may stand between headers.
SEPARATORS = (",", ";", "\t", "|", "\x1f")
# Types by the values that have them, narrow ones first, named as contracts name them.
TYPES = {
    "boolean": re.compile("true|false"),
    "integer": re.compile("-?(0|[1-9][0-9]{0,17})"),
    "number": re.compile("-?(0|[1-9][0-9]*)([.][0-9]+)?|-?[.][0-9]+"),
    "date": re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}"),
    "timestamp": re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}.*"),
}


@dataclass
class UnknownColumn:
    """What is noted of the values of a column that the contract does not name: how many there are, and their type."""

    name: str
    filled: int = 0
    is_counted: bool = True
    """Whether all values were looked at; otherwise there are more than `filled`."""
    types: tuple[str, ...] = (*TYPES, "string")

    def look_at(self, value: str | None) -> None:
        """Count a value, and drop the types that it does not have."""
        if value is not None:
            self.filled += 1
            self.types = tuple(kind for kind in self.types if kind not in TYPES or TYPES[kind].fullmatch(value))

    @property
    def type(self) -> str | None:
        """The narrowest type that all values have; None without a value."""
        return self.types[0] if self.filled else None


@dataclass
class Layout:
    """How the fields of a delivery map to stored columns.

    `columns` has None where a field is not stored. `delivered` are all headers. `unknown` has a column where the contract
    does not name the field, and None elsewhere. `unnamed`: how many fields without a header each record has behind them.
    """

    columns: list[Column | None]
    first_line: int
    drift: list[Drift] = field(default_factory=list)
    unknown: list[Column | None] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)
    unnamed: int = 0

    @property
    def stored(self) -> list[Column]:
        """The stored columns, in the order of the delivery."""
        return [column for column in self.columns if column is not None]

    @property
    def has_unknown(self) -> bool:
        """Whether the delivery has fields that the contract does not name."""
        return any(self.unknown)

    @property
    def headers(self) -> list[str | None]:
        """The header that each field has in the delivery, None where it is not stored."""
        renamed = {drift.column: drift.detail for drift in self.drift if drift.kind == "renamed"}
        return [None if c is None else renamed.get(c.name, c.source_name) for c in self.columns]


def match_headers(
    delivery: Delivery, headers: Sequence[str], first_line: int, header_line: int | None = None
) -> Layout:
    """The layout of a delivery with these headers, by the contract's aliases and drift policy.

    `first_line` is where its records begin, `header_line` where its headers are, None where no line holds them. Raises
    PermanentFailure for headers that the contract does not accept.
    """
    contract = delivery.contract
    known = {column.source_name: column for column in contract.columns}
    for alias in contract.aliases:
        if alias.since <= delivery.business_date:
            known.setdefault(alias.source_name, contract.column(alias.column))
    if not any(header in known for header in headers):
        raise delivery.problem(Code.DELIVERY_HEADER_UNRECOGNISED, _unrecognised(delivery, headers), header_line)
    columns: list[Column | None] = []
    unknown: list[Column | None] = []
    drift: list[Drift] = []
    for header in headers:
        column = known.get(header)
        if headers.count(header) > 1 or (column is not None and column in columns):
            message = f"duplicate column header {delivery.shown_header(header)}"
            raise delivery.problem(Code.DELIVERY_HEADER_REPEATED, message, header_line)
        if column is not None and column.source_name != header:
            drift.append(Drift("renamed", column.name, header))
        unknown.append(_unknown(delivery, header, header_line, drift) if column is None else None)
        columns.append(column)
    missing = [column for column in contract.columns if column not in columns]
    needed = [column for column in missing if column.required]
    if needed:
        others = [header for header in headers if header not in known]
        message = "; ".join(_missing(delivery, column, others) for column in needed)
        raise delivery.problem(Code.DELIVERY_HEADER_MISSING_COLUMN, message, header_line, needed[0].name)
    drift += [Drift("missing", column.name, "null in every row") for column in missing]
    stored = [None if c is None or c.personal == "drop" else c for c in columns]
    layout = Layout(stored, first_line, drift, unknown, list(headers))
    _refuse_renamed_personal_data(delivery, layout, missing, header_line)
    return layout


def _missing(delivery: Delivery, column: Column, others: Sequence[str]) -> str:
    """What is said of a required column that is missing: with the header that stands in its place, if one does."""
    message = f"required column {column.source_name!r} is missing"
    for alias in delivery.contract.aliases:
        if alias.column == column.name and alias.source_name in others:
            shown = delivery.shown_header(alias.source_name)
            return f"{message}: {shown} is its name from {alias.since} on, and this delivery is of {delivery.business_date}"
    found = alike(column.source_name, others)
    return f"{message}: {delivery.shown_header(found.header)} {found.differs}" if found else message


def _unrecognised(delivery: Delivery, headers: Sequence[str]) -> str:
    """What is said of a delivery without any of the contract's headers.

    Of what stands there only what resembles a header is shown: where no header line is, it is values.
    """
    columns = delivery.contract.columns
    expected = ", ".join(column.source_name for column in columns[:4])
    message = f"no column header of this feed found; expected {expected}, ..."
    found = [(column.source_name, like) for column in columns if (like := alike(column.source_name, headers))]
    if found:
        return f"{message}; " + "; ".join(
            f"{delivery.shown_header(like.header)} {like.differs} from {name!r}" for name, like in found[:4]
        )
    if len(headers) == 1 and (separator := _separator(headers[0], [column.source_name for column in columns])):
        return f"{message}, separated by {delivery.source.delimiter!r}; these are separated by {separator!r}"
    return f"{message}; the {len(headers):,} fields that stand there are none"


def _separator(line: str, names: Sequence[str]) -> str | None:
    """What separates the expected names in a header line that was not split."""
    return next((mark for mark in SEPARATORS if len({part.strip() for part in line.split(mark)} & {*names}) > 1), None)


def _unknown(delivery: Delivery, header: str, line: int | None, drift: list[Drift]) -> Column:
    """The column of a header that is not in the contract. It is noted in `drift`, and its values are never stored."""
    if delivery.contract.drift == "fail":
        message = f"column {delivery.shown_header(header)} is not in the contract, whose drift policy is fail"
        raise delivery.problem(Code.DELIVERY_HEADER_UNKNOWN_COLUMN, message, line)
    if len(drift) >= limits.MAX_UNKNOWN_COLUMNS:
        message = f"more than {limits.MAX_UNKNOWN_COLUMNS} columns are not in the contract"
        raise delivery.problem(Code.DELIVERY_HEADER_UNRECOGNISED, message, line)
    shown = delivery.shown_header(header)
    name = _column_name(header, drift)
    drift.append(Drift("unknown", name, shown))
    return Column(name, header, "string", f"Delivered as {shown}; not in the contract.")


def _column_name(header: str, drift: list[Drift]) -> str:
    cleaned = hidden(header, expects_hkid=True).lower()
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in cleaned).strip("_")[:40]
    if name and not any(name == other.column for other in drift):
        return name
    # Headers without an ASCII letter, or with the same letters, are told apart by a number.
    return f"{name or 'column'}_{len(drift) + 1}"


def _refuse_renamed_personal_data(
    delivery: Delivery, layout: Layout, missing: list[Column], header_line: int | None
) -> None:
    lost = next((column for column in missing if column.wholly_personal), None)
    found = next((column for column in layout.unknown if column is not None), None)
    if lost is None or found is None:
        return
    unknown = delivery.shown_header(found.source_name)
    message = (
        f"personal-data column {lost.source_name!r} is missing, and {unknown} is not in the contract: it may be the same"
        " column renamed; add it to the contract as an alias or a column"
    )
    raise delivery.problem(Code.DELIVERY_HEADER_PERSONAL_DATA, message, header_line, lost.name)
