"""The columns of a delivery against those of its contract: order, aliases, drift."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sampan.contracts.model import Alias, Column
from sampan.errors import Code
from sampan.reading import limits
from sampan.reading.delivery import Delivery, printable


class Drift(NamedTuple):
    """One difference between a delivery and its contract. `kind`: renamed, missing, added or ignored."""

    kind: str
    column: str
    detail: str


@dataclass
class Layout:
    """How the fields of a delivery map to stored columns. `columns` has None where a field is not stored."""

    columns: list[Column | None]
    first_line: int
    drift: list[Drift] = field(default_factory=list)

    @property
    def stored(self) -> list[Column]:
        """The stored columns, in the order of the delivery."""
        return [column for column in self.columns if column is not None]

    @property
    def added(self) -> list[Column]:
        """Columns that are in the delivery and not in the contract."""
        extra = {drift.column for drift in self.drift if drift.kind == "added"}
        return [column for column in self.stored if column.name in extra]

    @property
    def headers(self) -> list[str | None]:
        """The header that each field has in the delivery, None where it is not stored."""
        renamed = {drift.column: drift.detail for drift in self.drift if drift.kind == "renamed"}
        return [None if c is None else renamed.get(c.name, c.source_name) for c in self.columns]

    @property
    def is_storable_verbatim(self) -> bool:
        """Whether no stored column holds personal data in every row."""
        return not any(column.wholly_personal for column in self.stored)


def match_headers(
    delivery: Delivery, headers: Sequence[str], first_line: int, header_line: int | None = None
) -> Layout:
    """The layout of a delivery with these headers, by the contract's aliases and drift policy.

    `first_line` is where its records begin, `header_line` where its headers are, None where no line holds them. Raises
    PermanentFailure for headers that the contract does not accept.
    """
    contract = delivery.contract
    known = {column.source_name: column for column in contract.columns}
    for alias in current_aliases(delivery):
        known.setdefault(alias.source_name, contract.column(alias.column))
    if not any(header in known for header in headers):
        expected = ", ".join(column.source_name for column in contract.columns[:4])
        message = f"no column header of this feed found; expected {expected}, ..."
        raise delivery.problem(Code.DELIVERY_HEADER_UNRECOGNISED, message, header_line)
    columns: list[Column | None] = []
    drift: list[Drift] = []
    for header in headers:
        column = known.get(header)
        if headers.count(header) > 1 or (column is not None and column in columns):
            message = f"duplicate column header {delivery.shown_header(header)}"
            raise delivery.problem(Code.DELIVERY_HEADER_REPEATED, message, header_line)
        if column is None:
            column = _unknown(delivery, header, header_line, drift)
        elif column.source_name != header:
            drift.append(Drift("renamed", column.name, header))
        columns.append(column)
    missing = [column for column in contract.columns if column not in columns]
    for column in missing:
        if column.required:
            message = f"required column {column.source_name!r} is missing"
            raise delivery.problem(Code.DELIVERY_HEADER_MISSING_COLUMN, message, header_line, column.name)
        drift.append(Drift("missing", column.name, "null in every row"))
    layout = Layout([None if c is None or c.personal == "drop" else c for c in columns], first_line, drift)
    _refuse_renamed_personal_data(delivery, layout, missing, header_line)
    return layout


def current_aliases(delivery: Delivery) -> list[Alias]:
    """The contract's aliases that hold on the delivery's business date."""
    return [alias for alias in delivery.contract.aliases if alias.since <= delivery.business_date]


def _unknown(delivery: Delivery, header: str, line: int | None, drift: list[Drift]) -> Column | None:
    """The column to store for a header that is not in the contract, None where it is ignored. Adds to `drift`."""
    policy = delivery.contract.drift
    if policy == "fail":
        message = f"column {delivery.shown_header(header)} is not in the contract, whose drift policy is fail"
        raise delivery.problem(Code.DELIVERY_HEADER_UNKNOWN_COLUMN, message, line)
    if len(drift) >= limits.MAX_UNKNOWN_COLUMNS:
        message = f"more than {limits.MAX_UNKNOWN_COLUMNS} columns are not in the contract"
        raise delivery.problem(Code.DELIVERY_HEADER_UNRECOGNISED, message, line)
    cleaned = delivery.private.clean_text(header)
    shown, name = printable(cleaned), _column_name(header, cleaned, drift)
    if policy == "ignore":
        drift.append(Drift("ignored", name, shown))
        return None
    name = name if name.startswith("x_") else f"x_{name}"
    drift.append(Drift("added", name, shown))
    return Column(name, header, "string", f"Added by the partner as {shown}; not in the contract.")


def _column_name(header: str, cleaned: str, drift: list[Drift]) -> str:
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in cleaned.lower()).strip("_")[:40]
    if name and not any(name in (other.column, other.column.removeprefix("x_")) for other in drift):
        return name
    # Headers without an ASCII letter, or with the same letters, are told apart by their hash.
    return f"{name or 'column'}_{hashlib.sha256(header.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _refuse_renamed_personal_data(
    delivery: Delivery, layout: Layout, missing: list[Column], header_line: int | None
) -> None:
    hidden = next((column for column in missing if column.wholly_personal), None)
    if hidden is None or not layout.added:
        return
    unknown = delivery.shown_header(layout.added[0].source_name)
    message = (
        f"personal-data column {hidden.source_name!r} is missing, and {unknown} is not in the contract: it may be the same"
        " column renamed, so nothing is stored; add it to the contract as an alias or a column"
    )
    raise delivery.problem(Code.DELIVERY_HEADER_PERSONAL_DATA, message, header_line, hidden.name)
