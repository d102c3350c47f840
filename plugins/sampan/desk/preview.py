"""What the gate would say of corrected rows: the types and row rules of the contract, in the steward's own session.

Nothing is stored. What only the whole batch can show (repeated keys, batch rules) is found when the rows are replayed, and so
is what rests on values that a steward does not see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from sampan.contracts import row_rules
from sampan.contracts.model import Column, Contract
from sampan.contracts.values import SHOWN_PSEUDONYMS, WITHHELD
from sampan.desk.uploads import Row, personal_data, read_delivery
from sampan.errors import Code, PermanentFailure, Problem
from sampan.ingest.quarantine import ID, merge
from sampan.text import spreadsheet_text

# In place of values that stewards do not see.
HIDDEN = (WITHHELD, "[HKID]", *(token for _, token in SHOWN_PSEUDONYMS))


@dataclass(frozen=True)
class Previewed:
    """One corrected row: what changes (column, before, after), and which rules it would break then.

    `was_broken` are the rules that it was rejected for. `unseen` are columns whose values are not seen here: rules about them
    are not checked.
    """

    quarantine_id: int
    business_date: date
    file: str | None
    line: int
    was_broken: list[str]
    given: Row
    changes: list[tuple[str, str | None, str | None]]
    broken: list[str]
    unseen: list[str]


def preview(
    connection: psycopg.Connection[Any], contract: Contract, rows: Sequence[Row], of_request: int | None = None
) -> list[Previewed]:
    """The rows of an uploaded file that change something, with what the gate would say of each, in order of their ids.

    `of_request` is the request that has the rows, for an operator who decides on it and may read no other rejected rows.
    Raises PermanentFailure for ids that are not open rows of the feed, and for personal data that a file brings.
    """
    by_id = {_id(row): row for row in rows}
    stored = {entry["quarantine_id"]: entry for entry in _entries(connection, contract, by_id, of_request)}
    missing = sorted(by_id.keys() - stored.keys())
    if missing:
        named = ", ".join(map(str, missing[:20])) + (", ..." if len(missing) > 20 else "")
        raise PermanentFailure(Problem(Code.QUARANTINE_ID, f"{contract.feed} has no open rows with the ids {named}"))
    _refuse_personal_data(contract, by_id, stored)
    changed = []
    for key in sorted(by_id, key=lambda key: (stored[key]["business_date"], key)):
        before = stored[key]["fields"] or {}
        given = {name: value for name, value in by_id[key].items() if name != ID}
        after = merge(before, given)
        if stored[key]["fields"] is None and (len(given) < len(contract.stored) or not any(given.values())):
            message = f"row {key} could not be split into fields: give all of its columns"
            raise PermanentFailure(Problem(Code.QUARANTINE_COLUMNS, message))
        changes = [(name, before.get(name), after.get(name)) for name in after if before.get(name) != after.get(name)]
        if changes:
            changed.append((stored[key], by_id[key], after, changes))
    found: list[Previewed] = []
    for day, of_day in groupby(changed, key=lambda item: item[0]["business_date"]):
        items = list(of_day)
        broken = _broken(connection, contract, day, [(entry["quarantine_id"], after) for entry, _, after, _ in items])
        for entry, given, after, changes in items:
            key = entry["quarantine_id"]
            unseen = [name for name, value in after.items() if value in HIDDEN]
            rules = [rule for rule in broken[key] if not _rests_on(contract, rule, set(unseen))]
            found.append(
                Previewed(key, day, entry["file"], entry["line"], entry["broken_rules"], given, changes, rules, unseen)
            )
    return found


@dataclass(frozen=True)
class Tried:
    """What the gate would say of a whole file: rows that were checked, and (line, rules) of each that breaks some."""

    rows: int
    is_whole: bool
    broken: list[tuple[int, list[str]]]

    @property
    def counts(self) -> list[tuple[str, int]]:
        """How many rows break each rule, the most frequent first."""
        return Counter(rule for _, rules in self.broken for rule in rules).most_common()


def try_delivery(connection: psycopg.Connection[Any], contract: Contract, day: date, file: str, body: bytes) -> Tried:
    """A file as it would be delivered for a day. Raises PermanentFailure where the contract does not accept it."""
    records, names, is_whole = read_delivery(contract, day, file, body)
    given = {record.line: dict(zip(names, record.fields, strict=True)) for record in records}
    # Of a record that could not be split only that is known.
    rows = [(record.line, given[record.line]) for record in records if not record.broken or any(record.fields)]
    found = _broken(connection, contract, day, rows) if rows else {}
    broken = []
    for record in records:
        unseen = {name for name, value in given[record.line].items() if value in HIDDEN}
        rules = [rule for rule in found.get(record.line, []) if not _rests_on(contract, rule, unseen)]
        if all_of := [*record.broken, *(rule for rule in rules if rule not in record.broken)]:
            broken.append((record.line, all_of))
    return Tried(len(records), is_whole, broken)


def _id(row: Row) -> int:
    """The id of a row; 0, which no row has, for what cannot be an id."""
    text = row.get(ID) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0


def _entries(
    connection: psycopg.Connection[Any], contract: Contract, ids: Iterable[int], of_request: int | None
) -> list[dict[str, Any]]:
    if of_request is not None:
        return connection.execute("select * from desk.corrected(%s)", [of_request]).fetchall()
    view = sql.Identifier("quarantine", f"{contract.feed}__rows")
    query = sql.SQL("select * from {} where state = 'open' and quarantine_id = any(%s)").format(view)
    return connection.execute(query, [list(ids)]).fetchall()


def _refuse_personal_data(contract: Contract, given: dict[int, Row], stored: dict[int, dict[str, Any]]) -> None:
    for key, row in given.items():
        fields = stored[key]["fields"] or {}
        for column in contract.stored:
            value = row.get(column.name)
            if value and personal_data(column, value, spreadsheet_text(fields.get(column.name) or "")):
                message = (
                    f"row {key}: the value of {column.name} may be personal data, which is not taken here. Leave it as it was"
                    " exported, and deliver the row again where it has to change"
                )
                raise PermanentFailure(Problem(Code.QUARANTINE_PSEUDONYM, message, column=column.name))


def _broken(
    connection: psycopg.Connection[Any], contract: Contract, day: date, rows: list[tuple[int, Row]]
) -> dict[int, list[str]]:
    """Rules that each row breaks, by its id. Of a value with a wrong type only that is said."""
    columns = contract.stored
    types, found = row_rules.type_checks(columns), row_rules.checks(contract, columns, day)
    of_type = {check.column: check.name for check in types}
    template = sql.SQL(
        """
        select id, _types, {rules} as _rules
        from (
            select id, {types} as _types, {casts}
            from jsonb_to_recordset({document}) as given (id bigint, {columns})
            offset 0
        ) as typed
        """
    )

    # A literal: rules may have a percent sign, which would be a placeholder beside parameters.
    document = sql.Literal(Jsonb([{"id": key, **_seen(columns, row)} for key, row in rows]))

    def statement(careful: bool) -> sql.Composed:
        return template.format(
            rules=row_rules.all_broken(found, careful),
            types=row_rules.all_broken(types),
            casts=row_rules.safe_casts(columns),
            document=document,
            columns=sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(c.name)) for c in columns),
        )

    try:
        with connection.transaction():
            answer = connection.execute(statement(False)).fetchall()
    except psycopg.DataError:
        answer = connection.execute(statement(True)).fetchall()
    columns_of = {check.name: check.column for check in found}
    return {
        row["id"]: row["_types"]
        + [rule for rule in row["_rules"] if of_type.get(columns_of.get(rule) or "") not in row["_types"]]
        for row in answer
    }


def _seen(columns: Iterable[Column], row: Row) -> Row:
    return {column.name: None if row.get(column.name) in HIDDEN else row.get(column.name) for column in columns}


def _rests_on(contract: Contract, rule: str, unseen: set[str]) -> bool:
    """Whether a rule is about columns whose values are not seen."""
    predicate = next((item.predicate for item in contract.row_rules if item.name == rule), None)
    names = {rule.partition(".")[0]} if predicate is None else row_rules.columns_in(predicate, contract)
    return bool(names & unseen)
