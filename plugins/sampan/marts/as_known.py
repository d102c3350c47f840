"""Marts as known on an earlier date: the same models on the batches that were known then, in their own schema.

Neither the live release nor the current build is affected. See ADR 0021.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from sampan.calendar import HONG_KONG
from sampan.database import Connection, connect, drop_relations, lock, one, scalar
from sampan.errors import Code, PermanentFailure, Problem
from sampan.marts import build, dbt, release
from sampan.marts.steps import all_steps
from sampan.quality import expectations, mart_rules
from sampan.settings import settings

# Which batches count as known, by basis: those published before the end of the day, or those of business dates up to it.
# A batch that came straight into raw has no time of publishing: its receipt is the best that is known.
# A batch that was withdrawn later was known then.
KNOWN = {
    "published": """
        state in ('published', 'withdrawn') and coalesce(published_at, received_at) < %(until)s and not exists (
            select from ops.withdrawal as w
            where w.batch_id = batch.batch_id and w.withdrawn_at < %(until)s
                and coalesce(w.undone_at, 'infinity') >= %(until)s
        )
    """,
    "delivered": "state = 'published' and business_date <= %(day)s",
}
# Schemas of the models' persistent tables. A look-back has its own of each until its marts are made.
WORKING = ("staging", "intermediate")


def schema_of(known_on: date | datetime, basis: str = "published") -> str:
    """Name of the schema with the marts as known on a day, or at a time of it."""
    prefix = "as_known" if basis == "published" else "as_delivered"
    return f"{prefix}_{known_on:%Y%m%dt%H%M%S}" if isinstance(known_on, datetime) else f"{prefix}_{known_on:%Y%m%d}"


def run(known_on: date | datetime, basis: str = "published") -> dict[str, Any]:
    """Make the marts as known at the end of a day in Hong Kong, or at a time. They replace those made before.

    Returns schema, batches, marts and rows, and deleted: how many batches known then retention has deleted since. Raises
    PermanentFailure when nothing was known then, or when a model, a test or a critical rule of the gate fails; then nothing
    is left behind.
    """
    if basis not in KNOWN:
        raise PermanentFailure(Problem(Code.AS_KNOWN_BASIS, f"unknown basis {basis!r}; bases: {', '.join(KNOWN)}"))
    schema = schema_of(known_on, basis)
    with connect("builder") as connection, _lock(schema):
        _drop_if_exists(connection, schema)
        with connection.transaction():
            build_no, batches, deleted = _begin(connection, known_on, basis, schema)
        try:
            _build(connection, build_no, schema)
            _gate(schema)
            shown = _show(connection, build_no, schema)
        except BaseException:
            _drop_schemas(connection, build_no, schema)
            raise
        return {"schema": schema, "batches": batches, "deleted": deleted} | shown


def drop(schema: str) -> None:
    """Drop the marts as known on a date, or what an interrupted run left of them.

    Raises PermanentFailure when there are none or other objects depend on them, TransientFailure while they are read.
    """
    with connect("builder") as connection, _lock(schema):
        if not _drop_if_exists(connection, schema):
            existing = ", ".join(item["schema"] for item in list_snapshots()) or "none"
            raise PermanentFailure(Problem(Code.AS_KNOWN_UNKNOWN, f"no marts {schema}; existing: {existing}"))


def list_snapshots() -> list[dict[str, Any]]:
    """All look-backs, newest date first: schema, known_on, basis, begun_at, made_at (None while unfinished), rows."""
    query = """
        select schema_name, known_on, basis, opened_at, made_at, coalesce(rows, '{}')
        from ops.as_known
        inner join ops.build using (build_no)
        where dropped_at is null
        order by known_on desc, schema_name
    """
    with connect("builder") as connection:
        rows = connection.execute(query).fetchall()
    return [dict(zip(("schema", "known_on", "basis", "begun_at", "made_at", "rows"), row, strict=True)) for row in rows]


def _lock(schema: str) -> AbstractContextManager[None]:
    """The right to make or drop one schema."""
    return lock("builder", schema, f"another process is making {schema}")


def _begin(connection: Connection, known_on: date | datetime, basis: str, schema: str) -> tuple[int, int, int]:
    """Start a build of the batches that were known. Returns its number, and how many batches it has and lacks.

    It lacks those that were deleted since.
    """
    if isinstance(known_on, datetime):
        day, until = known_on.date(), known_on if known_on.tzinfo else known_on.replace(tzinfo=HONG_KONG)
    else:
        day, until = known_on, datetime.combine(known_on + timedelta(days=1), datetime.min.time(), HONG_KONG)
    known = {"until": until, "day": day}
    as_of_date, batches, deleted = one(
        connection,
        f"""
        select
            max(business_date) filter (where deleted_at is null),
            count(*) - count(deleted_at),
            count(deleted_at)
        from ops.batch
        where {KNOWN[basis]}
        """,
        known,
    )
    if not batches:
        raise PermanentFailure(Problem(Code.AS_KNOWN_NOTHING, f"no available batch was {basis} by {known_on}"))
    build_no = scalar(
        connection,
        """
        insert into ops.build (state, as_of_date, judged_at)
        values ('as_known', %s, least(%s, ops.now()))
        returning build_no
        """,
        [as_of_date, until],
    )
    connection.execute(
        f"""
        insert into ops.build_batch (build_no, batch_id)
        select %(build_no)s, batch_id from ops.batch
        where deleted_at is null and {KNOWN[basis]}
        """,
        known | {"build_no": build_no},
    )
    connection.execute(
        """
        insert into ops.as_known (build_no, known_on, known_until, basis, schema_name, deleted_batches)
        values (%s, %s, %s, %s, %s, %s)
        """,
        [build_no, day, until if basis == "published" else "infinity", basis, schema, deleted],
    )
    return build_no, batches, deleted


def _build(connection: Connection, build_no: int, schema: str) -> None:
    runner = dbt.DbtRunner(schema, build_no)
    for step in all_steps():
        if step.prepare_as_known:
            step.prepare_as_known(connection, f"{schema}_intermediate", build_no)
        build.require_done(build_no, step.name, runner.run(step.name, build_no))
    connection.execute("update ops.build set built_at = clock_timestamp() where build_no = %s", [build_no])


def _gate(schema: str) -> None:
    """Raise PermanentFailure when the marts break a critical rule: a release would have been stopped too."""
    critical = [
        f"{mart}: {result.rule}"
        for mart, rules in sorted(mart_rules.load().items())
        for result in expectations.validate(mart, rules, schema, mart, settings().dsn("builder"))
        if result.critical
    ]
    if critical:
        raise PermanentFailure(Problem(Code.AS_KNOWN_GATE, f"{schema} breaks critical rules: {', '.join(critical)}"))


def _show(connection: Connection, build_no: int, schema: str) -> dict[str, int]:
    """Drop the working tables, grant the marts to the readers, and record them. Returns marts and rows."""
    with connection.transaction():
        # Marts that banks read under consents are not shown: consents are checked as of now, not as of then.
        for mart in release.under_row_security(connection, schema):
            connection.execute(sql.SQL("drop table {}").format(sql.Identifier(schema, mart)))
        marts = release.relations(connection, schema)
        _drop_working(connection, schema)
        if release.relations(connection, schema) != marts:
            raise PermanentFailure(Problem(Code.AS_KNOWN_VIEWS, "a mart is a view over an intermediate relation"))
        rows = {
            mart: scalar(connection, sql.SQL("select count(*) from {}").format(sql.Identifier(schema, mart)))
            for mart in marts
        }
        connection.execute("delete from ops.suppression where build_no = %s", [build_no])
        release.grant(connection, schema)
        connection.execute(
            "update ops.as_known set rows = %s, made_at = clock_timestamp() where build_no = %s",
            [Jsonb(rows), build_no],
        )
    return {"marts": len(rows), "rows": sum(rows.values())}


def _drop_if_exists(connection: Connection, schema: str) -> bool:
    """Drop a schema and its working tables. Returns whether there was one."""
    row = connection.execute(
        "select build_no from ops.as_known where schema_name = %s and dropped_at is null", [schema]
    ).fetchone()
    if row is not None:
        _drop_schemas(connection, row[0], schema)
    return row is not None


def _drop_schemas(connection: Connection, build_no: int, schema: str) -> None:
    """Drop all schemas of a look-back. Raises PermanentFailure when someone's view depends on its marts."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("set local lock_timeout = {}").format(release.LOCK_TIMEOUT))
            _drop_working(connection, schema)
            if scalar(connection, "select to_regnamespace(%s) is not null", [schema]):
                drop_relations(connection, schema)
                connection.execute(sql.SQL("drop schema {}").format(sql.Identifier(schema)))
            connection.execute("update ops.as_known set dropped_at = clock_timestamp() where build_no = %s", [build_no])
    except psycopg.errors.DependentObjectsStillExist as error:
        message = f"cannot drop {schema}, other objects depend on it: {error.diag.message_primary}"
        raise PermanentFailure(Problem(Code.AS_KNOWN_IN_USE, message)) from error


def _drop_working(connection: Connection, schema: str) -> None:
    for working in WORKING:
        name = sql.Identifier(f"{schema}_{working}")
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(name))
