"""Check a loaded batch. Rows that break a rule go to quarantine; a batch that breaks a critical rule is held.

Types and row rules are checked in one pass over the intake table, which finds every rule that a row breaks. Duplicate
keys are found by creating a unique index: only if that fails are the repeated rows searched for. Then Great Expectations
checks the batch as a whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from sampan import failpoints, feed_hooks
from sampan.alerts import raise_alert
from sampan.consent import Rejected
from sampan.contracts import line_pattern, row_rules
from sampan.contracts.model import Column, Contract
from sampan.contracts.registry import all_contracts
from sampan.contracts.row_rules import Check
from sampan.contracts.values import PSEUDONYM
from sampan.database import Connection, connect, one, scalar
from sampan.errors import Code, PermanentFailure, Problem, require_reason
from sampan.ingest import ledger, load, withheld
from sampan.ingest.budget import over_budget
from sampan.ingest.ledger import Batch
from sampan.quality import expectations
from sampan.reading.layout import LayoutGrew
from sampan.reading.record import Record
from sampan.settings import settings

log = logging.getLogger(__name__)
# Rows of one partner in a day. Typing errors are one row in some thousands; who tries numbers needs many.
MANY_IDENTIFIERS = 50
BROKEN_ROWS_AT_ONCE = 20_000
# Columns of a table of rejects beside its line and the delivered ones.
OF_REJECTS = ("_broken", "_record", "_types", "_is_sound")
# Its delivered columns as JSON.
FIELDS = sql.SQL("to_jsonb(r) - array['_line', {}]").format(sql.SQL(", ").join(map(sql.Literal, OF_REJECTS)))


def run(feed: str, business_date: date | None = None) -> dict[str, int]:
    """Gate every loaded batch of a feed, or those of one date. Returns how many passed ("batches") and were held."""
    return ledger.process_pending(feed, "loaded", business_date, _gate)


def _gate(connection: Connection, contract: Contract, batch: Batch) -> None:
    if batch.row_rules_at is None:
        if batch.proven_rules_sha256 != line_pattern.proven_rules_sha256(contract):
            # The contract has changed since, and so has what its records were proven to keep.
            batch = load.load_batch(connection, contract, batch)
        with ledger.transaction(connection):
            _row_rules(connection, contract, batch)
            failpoints.hit("gate.before_rows_commit")
        failpoints.hit("gate.after_rows_commit")
    rows, quarantined, duplicate = _counts(connection, batch)
    outcomes = _batch_rules(contract, batch, rows - quarantined - duplicate)
    problem = _over_budget(connection, contract, batch, rows, quarantined) or _failed(batch, outcomes)
    with ledger.transaction(connection):
        expectations.store(connection, _suite(contract), outcomes, batch_id=batch.batch_id)
        if problem:
            ledger.hold(connection, batch, problem, rows=rows)
        else:
            ledger.write(connection, batch, state="gated", gated_at=ledger.now())
        failpoints.hit("gate.before_commit")
    failpoints.hit("gate.after_commit")


def accept(feed: str, business_date: date, reason: str, by: str, batch_id: int | None = None) -> int:
    """Override the gate: release the held batches of a date, or one of them, recording approver and reason. Returns how many.

    One that was rejected is released only by its number. Raises PermanentFailure when no batch is held, or when one was held
    before its rows were checked, for instance because it could not be read.
    """
    require_reason(reason, Code.GATE_REASON)
    accepted = 0
    with connect() as connection:
        for batch in ledger.pending(connection, feed, "held", business_date, batch_id):
            claimed = ledger.claim(connection, batch)
            if claimed is None or claimed.row_rules_at is None:
                continue
            with ledger.transaction(connection):
                rows, quarantined, duplicate = _recount(connection, claimed)
                ledger.write(
                    connection, claimed, state="gated", gated_at=ledger.now(), rows_in=rows, rows_held=None,
                    rows_quarantined=quarantined, rows_duplicate=duplicate, rejected_at=None, rejected_by=None,
                    rejected_because=None,
                )  # fmt: skip
                connection.execute(
                    "update ops.batch set problem = problem || %s where batch_id = %s",
                    [Jsonb({"accepted_by": by, "accepted_because": reason}), claimed.batch_id],
                )
            accepted += 1
        left = connection.execute(
            """
            select batch_id, problem from ops.batch
            where
                feed = %s and business_date = %s and state = 'held' and deleted_at is null and row_rules_at is null
                and case when %s::bigint is null then rejected_at is null else batch_id = %s end
            order by batch_id
            """,
            [feed, business_date, batch_id, batch_id],
        ).fetchall()
    if left:
        lines = [f"batch {number}: {Problem(**problem)}" for number, problem in left]
        message = f"{accepted} accepted; these cannot be accepted because their rows were never checked: " + "; ".join(
            lines
        )
        raise PermanentFailure(Problem(Code.GATE_ACCEPT, message))
    if not accepted:
        raise PermanentFailure(Problem(Code.GATE_ACCEPT, f"no batch of {feed} for {business_date} is held"))
    return accepted


def reject(batch_id: int, reason: str, by: str) -> None:
    """Give up a held batch: its date waits for another delivery. `accept` with its number takes it back.

    Raises PermanentFailure when the batch is not held, or was rejected before.
    """
    require_reason(reason, Code.GATE_REASON)
    with connect() as connection, ledger.transaction(connection):
        done = connection.execute(
            """
            update ops.batch
            set rejected_at = clock_timestamp(), rejected_by = %s, rejected_because = %s, token = token + 1
            where batch_id = %s and state = 'held' and rejected_at is null and deleted_at is null
            """,
            [by, reason, batch_id],
        ).rowcount
        if not done:
            raise PermanentFailure(Problem(Code.GATE_ACCEPT, f"batch {batch_id} is not held"))


# --- rows -------------------------------------------------------------------------------------------------------------


def _row_rules(connection: Connection, contract: Contract, batch: Batch) -> None:
    """Move every row that breaks a rule to quarantine and delete duplicates, leaving a clean, indexed intake table."""
    columns = _columns(connection, contract, batch)
    found = row_rules.checks(contract, columns, batch.business_date)
    proven = line_pattern.proven_rules(contract)
    _note_broken_rows(connection, batch, [check for check in found if check.name not in proven])
    duplicate = _identify(connection, contract, batch)
    quarantined: int = scalar(connection, "select count(*) from broken_row")
    apart = _attributes(connection, f"{batch.table}__rejects")
    if quarantined or apart:
        connection.execute(
            """
            create temporary table to_quarantine (line bigint, broken_rules text[], record text, fields jsonb)
            on commit drop
            """
        )
    if quarantined:
        _collect_typed(connection, contract, batch, quarantined, apart=bool(apart))
    if apart:
        quarantined += _collect_rejects(connection, contract, batch, columns, found)
        connection.execute(sql.SQL("drop table {}").format(batch.rejects))
    if quarantined:
        _quarantine(connection, contract, batch)
        _alert_to_guesses(connection, contract, batch)
    _count_warnings(connection, contract, batch, columns)
    ledger.write(connection, batch, rows_quarantined=quarantined, rows_duplicate=duplicate, row_rules_at=ledger.now())
    if quarantined:
        what = f"{quarantined} of {batch.rows_in} rows of batch {batch.batch_id} of {batch.business_date} are in quarantine"
        feed_hooks.on_rejected(connection, batch.feed, what, Rejected(batch.landing_uri, batch.batch_id, rows=True))


def _attributes(connection: Connection, table: str) -> list[str]:
    """Names of the delivered columns of an intake table; an empty list when the table does not exist."""
    rows = connection.execute(
        """
        select attname from pg_attribute
        where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped
        order by attnum
        """,
        [f'intake."{table}"'],
    )
    return [name for (name,) in rows if name not in ("_batch_id", "_line", *OF_REJECTS)]


def _columns(connection: Connection, contract: Contract, batch: Batch) -> list[Column]:
    """Columns of the intake table: those of the contract, and those that an earlier version of it had."""
    known = {column.name: column for column in contract.stored}
    return [
        known.get(name) or Column(name, name, "string", "Of an earlier contract.")
        for name in _attributes(connection, batch.table)
    ]


def _names(columns: list[Column]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)


def _note_broken_rows(connection: Connection, batch: Batch, found: list[Check]) -> None:
    """Move every row that breaks a rule out of the intake table: its line and rules to the temporary table broken_row."""
    # PostgreSQL runs this SELECT on several cores, but expects too many rows from these conditions to do so by default.
    connection.execute("set local parallel_tuple_cost = 0")
    statement = sql.SQL(
        "create temporary table broken_row on commit drop as select _line, ctid as place, {} as rules from {} where {}"
    )
    noted = _evaluate(
        connection,
        lambda careful: statement.format(row_rules.all_broken(found, careful), batch.intake, row_rules.any_of(found)),
    )
    if noted.rowcount:
        _delete(connection, batch, "broken_row")


def _evaluate(connection: Connection, statement: Callable[[bool], sql.Composed]) -> psycopg.Cursor:
    """Run a statement that evaluates row rules; if a rule raises an error for some row, run the careful form of it."""
    try:
        with connection.transaction():
            return connection.execute(statement(False))
    except psycopg.DataError:
        return connection.execute(statement(True))


def _delete(connection: Connection, batch: Batch, lines: str) -> None:
    """Delete the rows from the intake table whose places are in a temporary table."""
    connection.execute(sql.SQL("analyze {}").format(sql.Identifier(lines)))
    connection.execute(
        sql.SQL("delete from {} as i using {} as l where i.ctid = l.place").format(batch.intake, sql.Identifier(lines))
    )


def _identify(connection: Connection, contract: Contract, batch: Batch) -> int:
    """Create the unique index on the key. Of identical rows one is kept; contradicting rows are all removed.

    Returns how many duplicates were deleted; contradicting rows are added to broken_row.
    """
    try:
        with connection.transaction():
            _index(connection, contract, batch)
        return 0
    except psycopg.errors.UniqueViolation:
        pass
    connection.execute(
        sql.SQL(
            """
            create temporary table repeated_row on commit drop as
            select
                l._line,
                l.place,
                contents > 1 as contradicts
            from (
                select
                    array_agg(_line order by _line) as lines,
                    array_agg(ctid order by _line) as places,
                    count(distinct row({values})) as contents
                from {table}
                group by {key}
                having count(*) > 1
            ) as repeated
            cross join unnest(lines, places) with ordinality as l (_line, place, number)
            where contents > 1 or number > 1
            """
        ).format(
            values=_names(_columns(connection, contract, batch)),
            table=batch.intake,
            key=sql.SQL(", ").join(map(sql.Identifier, contract.key)),
        )
    )
    connection.execute(
        "insert into broken_row (_line, rules) select _line, array[%s::text] from repeated_row where contradicts",
        [Code.PRIMARY_KEY_CONTRADICTING_ROWS],
    )
    _delete(connection, batch, "repeated_row")
    _index(connection, contract, batch)
    same: int = scalar(connection, "select count(*) from repeated_row where not contradicts")
    return same


def _index(connection: Connection, contract: Contract, batch: Batch) -> None:
    key = sql.SQL(", ").join(map(sql.Identifier, contract.indexed_key))
    connection.execute(
        sql.SQL("create unique index {} on {} ({}, _batch_id)").format(
            sql.Identifier(f"{batch.table}_key"), batch.intake, key
        )
    )


def _quarantine(connection: Connection, contract: Contract, batch: Batch) -> None:
    """Quarantine the rows of to_quarantine, with what they may keep."""
    record, fields = withheld.kept(contract)
    connection.execute(
        sql.SQL(
            """
            insert into quarantine.record (feed, batch_id, line, broken_rules, record, fields)
            select {}, {}, line, broken_rules, {}, {} from to_quarantine order by line
            """
        ).format(sql.Literal(contract.feed), sql.Literal(batch.batch_id), record, fields)
    )


def _collect_typed(connection: Connection, contract: Contract, batch: Batch, count: int, *, apart: bool) -> None:
    """Collect the rows of broken_row with their original text: of records set apart, and read again from the delivery."""
    if apart:
        connection.execute(
            sql.SQL(
                """
                insert into to_quarantine (line, broken_rules, record, fields)
                select _line, b.rules, r._record, {} from broken_row as b join {} as r using (_line)
                """
            ).format(FIELDS, batch.rejects)
        )
        connection.execute("delete from broken_row using to_quarantine where line = _line")
    connection.execute("create unique index on broken_row (_line)")
    try:
        with connection.transaction():
            _collect_read(connection, contract, batch, from_start=True)
    except LayoutGrew:
        _collect_read(connection, contract, batch, from_start=False)
    kept = scalar(connection, "select count(*) from to_quarantine")
    if kept != count:
        message = f"{count} rows broke rules, but only {kept} of them were found in the delivery"
        raise PermanentFailure(Problem(Code.QUARANTINE_INCOMPLETE, message))


def _collect_read(connection: Connection, contract: Contract, batch: Batch, *, from_start: bool) -> None:
    """Collect the rows of broken_row as they are in the delivery."""
    reader = batch.reader(contract, from_start=from_start)

    def entry(record: Record, broken: list[str]) -> tuple[object, ...]:
        fields = {column.name: value for column, value in zip(reader.layout.stored, record.fields, strict=True)}
        return record.line, broken, record.text, Jsonb(fields)

    for broken in _broken_rows(connection):
        with (
            connection.cursor() as cursor,
            cursor.copy("copy to_quarantine (line, broken_rules, record, fields) from stdin") as copy,
        ):
            for record in reader.records(broken):
                copy.write_row(entry(record, broken[record.line]))


def _broken_rows(connection: Connection) -> Iterator[dict[int, list[str]]]:
    """Broken rules by line, in order and in parts that fit in memory however many rows a delivery breaks."""
    last = -1
    while part := connection.execute(
        "select _line, rules from broken_row where _line > %s order by _line limit %s", [last, BROKEN_ROWS_AT_ONCE]
    ).fetchall():
        yield dict(part)
        last = part[-1][0]


def _collect_rejects(
    connection: Connection, contract: Contract, batch: Batch, columns: list[Column], found: list[Check]
) -> int:
    """Collect records that cannot be cast to their types, with every broken type and every broken rule of other fields."""
    delivered = _attributes(connection, f"{batch.table}__rejects")
    present = [column for column in columns if column.name in delivered]
    absent = [
        sql.SQL("cast(null as {}) as {}").format(sql.SQL(column.type), sql.Identifier(column.name))
        for column in columns
        if column.name not in delivered
    ]
    type_checks = row_rules.type_checks(present)
    # Without OFFSET the planner would put an expression in each place where its name stands, and evaluate it as often.
    template = sql.SQL(
        """
        insert into to_quarantine (line, broken_rules, record, fields)
        select
            _line,
            case
                when _is_split
                    then _broken || _types || array(select rule from unnest(_rules) as rule where rule <> all(_ignored))
                else _broken
            end,
            _record,
            case when _is_split then _fields end
        from (
            select
                *,
                {rules} as _rules,
                {ignored} as _ignored,
                cardinality(_broken) = 0 or _fields @? '$.* ? (@ != null)' as _is_split
            from (
                select
                    _line,
                    _broken,
                    _record,
                    _types,
                    {fields} as _fields,
                    {casts}
                from {rejects} as r
                where not _is_sound
                offset 0
            ) as typed
            offset 0
        ) as checked
        """
    )

    def statement(careful: bool) -> sql.Composed:
        return template.format(
            rules=row_rules.all_broken(found, careful),
            ignored=row_rules.all_broken(_ignored(found, type_checks)),
            casts=sql.SQL(", ").join([row_rules.safe_casts(present, checked=True), *absent]),
            fields=FIELDS,
            rejects=batch.rejects,
        )

    return _evaluate(connection, statement).rowcount


def _alert_to_guesses(connection: Connection, contract: Contract, batch: Batch) -> None:
    """Raise an alert, once a day for a feed, when many rows of its partner with a person's number are in quarantine."""
    kind = "hkid_guesses"
    is_told = (
        "select exists (select from ops.alert where (kind, feed) = (%s, %s) and raised_at > now() - interval '1 day')"
    )
    with_number = "select count(*) from quarantine.record where concat(record, fields) ~ %s and "
    # The rows of a day are looked through only when they may be told of: each batch would do it again.
    here = scalar(
        connection, with_number + "(feed, batch_id) = (%s, %s)", [PSEUDONYM.pattern, contract.feed, batch.batch_id]
    )
    if not here or scalar(connection, is_told, [kind, contract.feed]):
        return
    feeds = [other.feed for other in all_contracts().values() if other.partner == contract.partner]
    of_partner = scalar(
        connection,
        with_number + "feed = any(%s) and quarantined_at > clock_timestamp() - interval '1 day'",
        [PSEUDONYM.pattern, feeds],
    )
    if of_partner > MANY_IDENTIFIERS:
        message = (
            f"batch {batch.batch_id}: {here} rows with HKID numbers, right or wrong, went to quarantine, {of_partner} of this"
            " partner within a day; somebody may be trying numbers: ask the partner who made the delivery"
        )
        raise_alert(connection, kind, contract.feed, message)


def _ignored(found: list[Check], type_checks: list[Check]) -> list[Check]:
    """The checks that do not count for a record: those of a column whose value has the wrong type, which is reported."""
    types = {check.column: check.name for check in type_checks}
    return [
        replace(check, broken=sql.SQL("{} = any(_types)").format(sql.Literal(types[check.column])))
        for check in found
        if check.column in types
    ]


def _count_warnings(connection: Connection, contract: Contract, batch: Batch, columns: list[Column]) -> None:
    """Count the rows that break a rule which only warns, and store the counts."""
    found = row_rules.warning_checks(contract, columns, batch.business_date)
    if not found:
        return
    counts = sql.SQL(", ").join(sql.SQL("count(*) filter (where {})").format(check.broken) for check in found)
    row = one(connection, sql.SQL("select {} from {}").format(counts, batch.intake))
    by_name = {rule.name: rule for rule in contract.row_rules}
    outcomes = [
        expectations.CheckResult(
            rule=rule.name,
            description=rule.description,
            expectation="unexpected_rows_expectation",
            column=None,
            severity=rule.severity,
            success=not count,
            kwargs={"unexpected_rows_query": f"select * from {{batch}} where not ({rule.predicate})"},
            observed={"value": count},
        )
        for rule, count in zip((by_name[check.name] for check in found), row, strict=True)
    ]
    expectations.store(connection, f"{_suite(contract)}.rows", outcomes, batch_id=batch.batch_id)


# --- the batch --------------------------------------------------------------------------------------------------------


def _counts(connection: Connection, batch: Batch) -> tuple[int, int, int]:
    """Number of records of the batch, of those in quarantine and of deleted duplicates, according to the ledger."""
    row = connection.execute(
        "select rows_in, rows_quarantined, rows_duplicate from ops.batch where batch_id = %s and token = %s",
        [batch.batch_id, batch.token],
    ).fetchone()
    if row is None:
        raise ledger.StaleClaim(f"{batch.feed} batch {batch.batch_id} was claimed by another worker")
    return row[0], row[1], row[2]


def _recount(connection: Connection, batch: Batch) -> tuple[int, int, int]:
    """Number of records of a held batch, of those in quarantine, and of those deleted as duplicates."""
    query = sql.SQL(
        """
        select
            rows_held,
            (select count(*) from quarantine.record as q where (q.feed, q.batch_id) = (b.feed, b.batch_id)),
            (select count(*) from {})
        from ops.batch as b
        where batch_id = %s
        """
    ).format(batch.intake)
    held, quarantined, clean = one(connection, query, [batch.batch_id])
    return held, quarantined, held - quarantined - clean


def _over_budget(
    connection: Connection, contract: Contract, batch: Batch, rows: int, quarantined: int
) -> Problem | None:
    if batch.origin == "replay" or quarantined <= contract.budget * rows:
        return None
    by_rule = connection.execute(
        """
        select rule, count(*) from quarantine.record
        cross join unnest(broken_rules) as rule
        where feed = %s and batch_id = %s
        group by rule
        """,
        [batch.feed, batch.batch_id],
    ).fetchall()
    message = over_budget(quarantined, rows, contract.budget, dict(by_rule))
    return Problem(Code.BATCH_REJECTION_BUDGET, message, batch.file)


def _suite(contract: Contract) -> str:
    return f"feeds.{contract.feed}"


def _batch_rules(contract: Contract, batch: Batch, rows: int) -> list[expectations.CheckResult]:
    """Results of the rules for all clean rows together; `rows` is their number.

    A replay is only part of a delivery and is not checked.
    """
    if batch.origin == "replay":
        return []
    tokens = {"business_date": batch.business_date.isoformat()}
    return expectations.validate(
        _suite(contract), contract.batch_rules, "intake", batch.table, settings().dsn("loader"), tokens, rows
    )


def _failed(batch: Batch, outcomes: list[expectations.CheckResult]) -> Problem | None:
    """The reason to hold a batch if a critical rule failed, else None."""
    failed = [f"{outcome.rule} ({outcome.description})" for outcome in outcomes if outcome.critical]
    return Problem(Code.BATCH_RULES, "; ".join(failed), batch.file) if failed else None
