"""Rows that broke a rule. A steward inspects them, corrects and replays them, or discards them.

A replay is landed and gated like any delivery; its batch names the batch whose rows it replays.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import count, groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.rows import class_row

from sampan import object_store
from sampan.contracts.model import Contract
from sampan.contracts.registry import get_contract
from sampan.contracts.values import PSEUDONYM, SHOWN_PSEUDONYMS, WITHHELD
from sampan.database import Connection, connect, one, scalar
from sampan.errors import Code, PermanentFailure, Problem, require_reason
from sampan.ingest import gate, lake, land, ledger, load, publish
from sampan.ingest.withheld import HAS_WITHHELD
from sampan.reading.reader import REPLAYED, open_delivery
from sampan.reading.recognise import what_it_is
from sampan.reading.record import csv_line
from sampan.settings import settings
from sampan.text import from_spreadsheet, spreadsheet_text
from sampan.warehouse.feed_tables import hide_pseudonyms

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

log = logging.getLogger(__name__)
ID = REPLAYED.name
RULES = "_broken_rules"
# How many rows are selected at most when no ids are given.
LIMIT = 100_000
# Of at most two MiB each.
ROWS_AT_ONCE = 50
# Lines of a corrected file that a message names.
MOST_SHOWN = 20
Fields = dict[str, str | None]


@dataclass(frozen=True)
class Entry:
    """One quarantined row, with its delivery, line and broken rules."""

    quarantine_id: int
    feed: str
    batch_id: int
    business_date: date
    file: str
    line: int
    broken_rules: list[str]
    record: str
    fields: Fields | None
    state: str
    resolved_by_batch_id: int | None
    quarantined_at: datetime

    def details(self) -> list[tuple[str | None, str, str | None]]:
        """(column, rule, value) for each broken rule; column and value are None for a rule about the whole row."""
        fields = self.fields or {}
        found = []
        for rule in self.broken_rules:
            column, _, check = rule.partition(".")
            known = column in fields and bool(check)
            found.append((column if known else None, rule, fields.get(column) if known else None))
        return found


def entries(
    feed: str,
    ids: Iterable[int] = (),
    business_date: date | None = None,
    state: str | None = "open",
    limit: int = LIMIT,
) -> list[Entry]:
    """Quarantined rows of a feed in order of delivery and line: those with `ids`, or at most `limit` of them.

    They are as a steward may see them: a token replaces each pseudonym.
    """
    return list(stream(feed, ids, business_date, state, limit))


def stream(
    feed: str,
    ids: Iterable[int] = (),
    business_date: date | None = None,
    state: str | None = "open",
    limit: int = LIMIT,
) -> Iterator[Entry]:
    """As `entries`, some at a time: together the texts may be larger than the memory."""
    return _entries(feed, ids, business_date, state, limit, hide_pseudonyms)


def _entries(
    feed: str,
    ids: Iterable[int],
    business_date: date | None = None,
    state: str | None = "open",
    limit: int = LIMIT,
    shown: Callable[[str], sql.Composable] = sql.SQL,
) -> Iterator[Entry]:
    get_contract(feed)
    wanted = list(ids)
    with (
        connect() as connection,
        connection.transaction(),
        connection.cursor("quarantined_rows", row_factory=class_row(Entry)) as cursor,
    ):
        cursor.itersize = ROWS_AT_ONCE
        query = sql.SQL(
            """
            select
                q.quarantine_id,
                q.feed,
                q.batch_id,
                b.business_date,
                regexp_replace(b.source_uri, '^.*/', '') as file,
                q.line,
                q.broken_rules,
                {} as record,
                cast({} as jsonb) as fields,
                q.state,
                q.resolved_by_batch_id,
                q.quarantined_at
            from quarantine.record as q
            join ops.batch as b using (batch_id)
            where q.feed = %(feed)s
                and (%(state)s::text is null or q.state = %(state)s)
                and (%(day)s::date is null or b.business_date = %(day)s)
                and (cardinality(%(ids)s::bigint[]) = 0 or q.quarantine_id = any(%(ids)s::bigint[]))
            order by b.business_date, q.batch_id, q.line
            limit %(limit)s
            """
        ).format(shown("q.record"), shown("cast(q.fields as text)"))
        cursor.execute(
            query,
            {"feed": feed, "state": state, "day": business_date, "ids": wanted,
             "limit": None if wanted else limit},
        )  # fmt: skip
        yield from cursor


def counts() -> list[tuple[str, str, str, int]]:
    """(feed, state, rule, rows) of all quarantined rows; a row counts once for each rule that it broke."""
    with connect() as connection:
        return connection.execute(
            """
            select feed, state, rule, count(*)
            from quarantine.record
            cross join unnest(broken_rules) as rule
            group by feed, state, rule
            order by feed, state, count(*) desc, rule
            """
        ).fetchall()


def export(contract: Contract, chosen: Iterable[Entry]) -> Iterator[str]:
    """Rows as lines of CSV for correction, after a header: id, broken rules, then the contract's columns.

    Values are safe in a spreadsheet.
    """
    names = [column.name for column in contract.stored]
    yield f"{csv_line([ID, RULES, *names])}\n"
    for entry in chosen:
        fields = entry.fields or {}
        values = (spreadsheet_text(fields.get(name) or "") for name in names)
        yield f"{csv_line([str(entry.quarantine_id), ' '.join(entry.broken_rules), *values])}\n"


def replay(feed: str, ids: Iterable[int] = (), corrected: Path | None = None) -> dict[str, int]:
    """Send open rows through the gate again: unchanged, because the contract has changed, or corrected in a CSV file.

    The file has the columns of `export`; rows that are not in it stay in quarantine. Returns how many rows were sent,
    published and quarantined again. Raises PermanentFailure when an unfinished other replay contains one of the rows
    (repeating the same replay finishes it), and when the replay is held.
    """
    contract, wanted = get_contract(feed), list(ids)
    with TemporaryDirectory(prefix="sampan-replay-") as folder:
        taken = count()
        rows: Iterator[tuple[Entry, Fields]]
        if corrected is None:
            stored = _entries(feed, wanted, limit=LIMIT)
            rows = ((entry, entry.fields) for entry, _ in zip(stored, taken, strict=False) if entry.fields is not None)
        else:
            rows = _corrected(contract, corrected, set(wanted))
        whole = _whole(contract, rows, skips=not wanted and corrected is None)
        # One batch after the other, as they are ordered.
        replays = [
            _to_replay(contract, chosen, Path(folder) / str(batch_id))
            for batch_id, chosen in groupby(whole, lambda row: row[0].batch_id)
        ]
        if not replays:
            raise PermanentFailure(
                Problem(Code.QUARANTINE_NOTHING_TO_REPLAY, f"{feed} has no open row that can be replayed")
            )
        if corrected is None and not wanted and next(taken) >= LIMIT:
            log.warning("only the first %s open rows are replayed; run the command again for the rest", f"{LIMIT:,}")
        with connect() as connection, ledger.transaction(connection):
            for one in replays:
                _refuse_if_in_replay(connection, contract, one)
            batches = [_land(connection, contract, one) for one in replays]
    # If the same replay was sent before and held, it is tried again.
    load.reset_held(feed, only=batches)
    for day in sorted({one.business_date for one in replays}):
        for step in (load, gate, publish):
            step.run(feed, day)
    lake.follow(feed)
    _refuse_held(batches)
    return _counts(batches)


def discard(feed: str, ids: Iterable[int], reason: str, by: str) -> int:
    """Discard open rows permanently, with a reason. Returns how many."""
    wanted = list(ids)
    if not wanted:
        raise PermanentFailure(Problem(Code.QUARANTINE_DISCARD, "give the ids of the rows to discard"))
    require_reason(reason, Code.QUARANTINE_REASON)
    with connect() as connection, ledger.transaction(connection):
        return connection.execute(
            """
            update quarantine.record
            set state = 'discarded', reason = %s, decided_by = %s, decided_at = clock_timestamp()
            where feed = %s and state = 'open' and quarantine_id = any(%s)
            """,
            [reason, by, feed, wanted],
        ).rowcount


def _corrected(contract: Contract, path: Path, ids: set[int]) -> Iterator[tuple[Entry, Fields]]:
    """Open rows with the values of a CSV file put in; only those with `ids` unless that is empty."""
    wanted = _given(contract, path)
    missing = sorted(wanted.keys() - _open_ids(contract.feed, wanted))
    if missing:
        raise PermanentFailure(
            Problem(Code.QUARANTINE_ID, f"{contract.feed} has no open rows with the ids {missing}", str(path))
        )
    chosen = wanted.keys() & ids if ids else wanted.keys()
    return _with_corrections(contract, path, wanted, chosen)


def _with_corrections(
    contract: Contract, path: Path, wanted: dict[int, Fields], chosen: Collection[int]
) -> Iterator[tuple[Entry, Fields]]:
    names = {column.name for column in contract.stored}
    for entry in _entries(contract.feed, chosen) if chosen else ():
        given = wanted[entry.quarantine_id]
        # Nothing is known of its fields, so one that is left out would become null.
        if entry.fields is None and (given.keys() != names or not any(given.values())):
            message = (
                f"row {entry.quarantine_id} could not be split into fields: give all of its columns, with the values"
                " that the record has"
            )
            raise PermanentFailure(Problem(Code.QUARANTINE_COLUMNS, message, str(path)))
        yield entry, merge(entry.fields or {}, given)


def _whole(contract: Contract, rows: Iterable[tuple[Entry, Fields]], skips: bool) -> Iterator[tuple[Entry, Fields]]:
    """Rows in order of batch and line, values that quarantine withholds taken from the landed delivery.

    A row with a list or an object for a value has to be corrected: with `skips` it is left out, else PermanentFailure.
    """
    for batch_id, chosen in groupby(rows, lambda row: row[0].batch_id):
        delivered: Iterator[tuple[int, Fields]] | None = None
        for entry, fields in chosen:
            if WITHHELD in fields.values():
                delivered = delivered or _delivered(contract, batch_id)
                values = next((values for line, values in delivered if line == entry.line), None)
                if values is None:
                    message = f"row {entry.quarantine_id}: line {entry.line} of {entry.file} is not a record any more"
                    raise PermanentFailure(Problem(Code.QUARANTINE_INCOMPLETE, message))
                fields = {name: values.get(name) if value == WITHHELD else value for name, value in fields.items()}
            nested = ", ".join(name for name, value in fields.items() if value == WITHHELD)
            if nested:
                message = f"row {entry.quarantine_id}: a list or an object was delivered for {nested}: give its value"
                if not skips:
                    raise PermanentFailure(Problem(Code.QUARANTINE_COLUMNS, message))
                log.warning("%s", message)
                continue
            yield entry, fields


def _delivered(contract: Contract, batch_id: int) -> Iterator[tuple[int, Fields]]:
    """Line and values, as landed, of the records of a batch whose values quarantine withholds."""
    query = "select landing_uri, business_date, source_uri, origin from ops.batch where batch_id = %s"
    lines = f"select line from quarantine.record where feed = %s and batch_id = %s and {HAS_WITHHELD} order by line"
    with connect() as connection:
        uri, day, source, origin = one(connection, query, [batch_id])
        wanted = [line for (line,) in connection.execute(lines, [contract.feed, batch_id])]
    reader = open_delivery(contract, uri, day, source.rsplit("/", 1)[-1], replay=origin == "replay")
    names = [column.name for column in reader.layout.stored]
    for record in reader.records(wanted):
        yield record.line, dict(zip(names, record.fields, strict=True))


def _open_ids(feed: str, ids: Iterable[int]) -> set[int]:
    query = "select quarantine_id from quarantine.record where feed = %s and state = 'open' and quarantine_id = any(%s)"
    with connect() as connection:
        return {key for (key,) in connection.execute(query, [feed, list(ids)])}


def _given(contract: Contract, path: Path) -> dict[int, Fields]:
    """The values of a CSV file by the id of the row that they correct.

    It is read as strictly as a delivery. Raises PermanentFailure that names every line which is not sound.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, strict=True)
            headers = next(reader, [])
            problem = _headers_problem(contract, path, headers)
            if problem:
                raise PermanentFailure(problem)
            wanted, problems = _rows_given(reader, headers)
    except UnicodeDecodeError:
        found = what_it_is(path.read_bytes()) or "text in another encoding"
        message = f"it is {found}: save it as CSV in UTF-8"
        raise PermanentFailure(Problem(Code.QUARANTINE_UNREADABLE, message, str(path))) from None
    except (OSError, csv.Error) as error:
        raise PermanentFailure(Problem(Code.QUARANTINE_UNREADABLE, str(error), str(path))) from error
    if problems:
        raise PermanentFailure(_all_of(path, problems))
    return wanted


def _rows_given(reader: CsvReader, headers: list[str]) -> tuple[dict[int, Fields], list[Problem]]:
    """Values by id below the headers of a CSV file, and the problem of each row that is not sound."""
    wanted: dict[int, Fields] = {}
    problems: list[Problem] = []
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            rule = Code.RECORD_UNCLOSED_QUOTE if "end of data" in str(error) else Code.RECORD_BAD_QUOTE
            problems.append(Problem(rule, f"cannot be split into fields: {error}", line=line))
            continue
        if values is None:
            return wanted, problems
        if not any(value.strip() for value in values):
            continue
        problem = _row_problem(headers, values, wanted)
        if problem:
            problems.append(replace(problem, line=line))
            continue
        row = dict(zip(headers, values, strict=True))
        wanted[int(row[ID])] = {name: value or None for name, value in row.items() if name not in (ID, RULES)}


def _headers_problem(contract: Contract, path: Path, headers: list[str]) -> Problem | None:
    """What is wrong with the headers of a file of corrected rows."""
    known = {ID, RULES, *(column.name for column in contract.stored)}
    unknown = [header for header in headers if header not in known]
    twice = sorted({header for header in headers if headers.count(header) > 1})
    if ID in headers and not unknown and not twice:
        return None
    parts = [
        f"expected {ID} and columns of the contract, separated by commas",
        *([] if ID in headers else [f"{ID} is missing"]),
        *([f"unknown: {', '.join(map(repr, unknown))}"] if unknown else []),
        *([f"more than once: {', '.join(twice)}"] if twice else []),
    ]
    return Problem(Code.QUARANTINE_COLUMNS, "; ".join(parts), str(path), 1)


def _row_problem(headers: list[str], values: list[str], before: Collection[int]) -> Problem | None:
    """What is wrong with a row of a file of corrected rows; `before` are the ids of the rows above it."""
    if len(values) != len(headers):
        if len(values) < len(headers):
            rule, remedy = Code.RECORD_TOO_FEW_FIELDS, "an empty field needs its comma"
        else:
            rule, remedy = Code.RECORD_TOO_MANY_FIELDS, "a value with a comma needs double quotes"
        return Problem(rule, f"{len(values)} fields under {len(headers)} headers: {remedy}")
    row = dict(zip(headers, values, strict=True))
    if not re.fullmatch(r"[0-9]{1,18}", row[ID]):
        return Problem(Code.QUARANTINE_ID, f"invalid id {row[ID]!r}", column=ID)
    if int(row[ID]) in before:
        return Problem(Code.QUARANTINE_ID, f"duplicate id {row[ID]}", column=ID)
    name = next((name for name, value in row.items() if PSEUDONYM.search(value)), None)
    if name is not None:
        message = "a pseudonym cannot be entered: write the number, or leave the token as it was exported"
        return Problem(Code.QUARANTINE_PSEUDONYM, message, column=name)
    return None


def _all_of(path: Path, problems: list[Problem]) -> Problem:
    """One problem that names those of many lines."""
    first, *others = problems
    shown = [f"line {other.line}: {other.message} [{other.rule}]" for other in others[: MOST_SHOWN - 1]]
    left = len(others) - len(shown)
    more = [f"and {left:,} more lines"] if left else []
    return replace(first, file=str(path), message="; ".join([first.message, *shown, *more]))


def merge(stored: Fields, given: Fields) -> Fields:
    """The stored values, as they are or as a steward sees them, with the corrections.

    A value that comes back as it was exported stays exactly as it was.
    """
    changed = {
        name: value
        for name, value in given.items()
        if (value or "") != spreadsheet_text(_shown(stored.get(name)) or "")
    }
    return stored | {name: value and from_spreadsheet(value) for name, value in changed.items()}


def _shown(value: str | None) -> str | None:
    for pattern, token in SHOWN_PSEUDONYMS:
        value = value and re.sub(pattern, token, value)
    return value


@dataclass(frozen=True)
class Replay:
    """Rows of one batch as they are replayed: a file, its size and SHA-256, and (line, quarantine id) of each row.

    The same rows with the same values are the same replay.
    """

    batch_id: int
    business_date: date
    file: Path
    size: int
    sha: str
    lines: list[tuple[int, int]]


def _to_replay(contract: Contract, chosen: Iterable[tuple[Entry, Fields]], file: Path) -> Replay:
    """Write the replay of rows of one batch to a file."""
    names = [column.name for column in contract.stored]
    line, lines = 2, []
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        # With the ids, later replays of the same values are deliveries of their own: the contract may have changed
        # meanwhile.
        writer.writerow([ID, *names])
        for entry, fields in chosen:
            values = [fields.get(name) or "" for name in names]
            writer.writerow([entry.quarantine_id, *values])
            lines.append((line, entry.quarantine_id))
            line += 1 + sum(value.count("\n") for value in values)
    with file.open("rb") as written:
        sha = hashlib.file_digest(written, "sha256").hexdigest()
    return Replay(entry.batch_id, entry.business_date, file, file.stat().st_size, sha, lines)


def _refuse_if_in_replay(connection: Connection, contract: Contract, replay: Replay) -> None:
    """Raise if another replay that can still be published contains one of the rows. Locks the rows against parallel calls."""
    ids = [key for _, key in replay.lines]
    connection.execute(
        """
        select from quarantine.record
        where feed = %s and quarantine_id = any(%s)
        order by quarantine_id
        for update
        """,
        [contract.feed, ids],
    )
    found = connection.execute(
        """
        select l.quarantine_id, b.batch_id from ops.replay_line as l
        join ops.batch as b using (batch_id)
        where l.feed = %s and l.quarantine_id = any(%s)
            and b.state not in ('published', 'held', 'withdrawn')
            and (b.business_date, b.content_sha256) <> (%s, %s)
        order by 1, 2
        limit 1
        """,
        [contract.feed, ids, replay.business_date, replay.sha],
    ).fetchone()
    if found is not None:
        message = (
            f"row {found[0]} is in batch {found[1]}, an unfinished replay: run `sampan ingest {contract.feed}` first"
        )
        raise PermanentFailure(Problem(Code.QUARANTINE_UNDER_WAY, message))


def _land(connection: Connection, contract: Contract, replay: Replay) -> int:
    """Land a replay and insert its batch, in the caller's transaction. Returns its batch id."""
    day, sha, size = replay.business_date, replay.sha, replay.size
    key = f"{contract.feed}/{day}/{sha}.csv"
    uri = f"s3://{settings().landing_bucket}/{key}"
    source = f"quarantine://{contract.feed}/{replay.batch_id}"
    object_store.put_if_absent(settings().s3(), key, lambda: replay.file.open("rb"), size, sha, source)
    # It counts as received when the original delivery was, so that a newer delivery still supersedes it.
    received = scalar(connection, "select counts_from from ops.batch where batch_id = %s", [replay.batch_id])
    land.insert_batch(
        connection, contract, day, sha, source, uri, size, received, origin="replay", replays=replay.batch_id
    )
    batch_id: int = scalar(
        connection,
        "select batch_id from ops.batch where feed = %s and business_date = %s and content_sha256 = %s",
        [contract.feed, day, sha],
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into ops.replay_line (batch_id, line, feed, quarantine_id) values (%s, %s, %s, %s)
            on conflict do nothing
            """,
            [(batch_id, line, contract.feed, key) for line, key in replay.lines],
        )
    return batch_id


def _refuse_held(batches: list[int]) -> None:
    """Raise if one of the replays is held, with the reason, or was withdrawn."""
    with connect() as connection:
        held = connection.execute(
            """
            select
                batch_id,
                case state when 'held' then 'held' else 'withdrawn' end,
                case state
                    when 'held' then problem ->> 'message'
                    else format('run `sampan withdraw %%s --batch %%s --undo`', feed, batch_id)
                end
            from ops.batch
            where batch_id = any(%s) and state in ('held', 'withdrawn')
            order by 1
            """,
            [batches],
        ).fetchall()
    if held:
        message = "; ".join(f"the replay is {state} as batch {number}: {why}" for number, state, why in held)
        raise PermanentFailure(Problem(Code.QUARANTINE_HELD, message))


def _counts(batches: list[int]) -> dict[str, int]:
    with connect() as connection:
        rows, published, quarantined = one(
            connection,
            """
            select
                coalesce(sum(rows_in), 0)::int,
                coalesce(sum(rows_published), 0)::int,
                coalesce(sum(rows_quarantined), 0)::int
            from ops.batch
            where batch_id = any(%s)
            """,
            [batches],
        )
    return {"rows": rows, "published": published, "quarantined": quarantined}
