"""Marts as known on an earlier date: the same models on the batches that were known then, in a schema of their own.

Nothing that readers of `marts` or a build under way use is touched. See ADR 0021.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from sampan.calendar import HONG_KONG
from sampan.database import advisory_lock, connect, drop_relations
from sampan.errors import Code, PermanentFailure, Problem
from sampan.marts import build, outcomes, release
from sampan.marts import suppression as disclosure
from sampan.quality import expectations
from sampan.settings import settings

Connection = psycopg.Connection[Any]
# By what a batch counts as known: that the platform had published it, or that it is of a business date until then.
BASES = ("published", "delivered")
# Persistent schemas of the models, which look-backs have their own of for as long as they are made.
WORKING = ("staging", "intermediate")
# What build.BEFORE reckons, but for the linkage, whose history is kept: from the schema with the look-back's own tables.
BEFORE: dict[str, Callable[[Connection, str, int], object]] = {
    f"{build.MARTS}__funding": lambda _, schema, __: outcomes.run(schema=schema),
    disclosure.STEP: disclosure.run,
}


def schema_of(known_on: date | datetime, basis: str = "published") -> str:
    """Name of the schema with the marts as known on a day, or at a minute of it."""
    word = "as_known" if basis == "published" else "as_delivered"
    return f"{word}_{known_on:%Y%m%dt%H%M%S}" if isinstance(known_on, datetime) else f"{word}_{known_on:%Y%m%d}"


def run(known_on: date | datetime, basis: str = "published") -> dict[str, Any]:
    """Make the marts as known at the end of a day in Hong Kong, or at a time, in the place of those made before.

    Returns schema, batches, marts and rows, and how many batches that were known then retention has deleted since. Raises
    PermanentFailure when nothing was known then, or when a model, a test or a critical rule of the gate fails; nothing is
    left behind then.
    """
    if basis not in BASES:
        raise PermanentFailure(Problem(Code.AS_KNOWN_BASIS, f"no basis {basis!r}; bases: {', '.join(BASES)}"))
    schema = schema_of(known_on, basis)
    with connect("builder") as connection, _alone(connection, schema):
        _forget(connection, schema)
        with connection.transaction():
            build_no, batches, deleted = _begin(connection, known_on, basis, schema)
        try:
            _build(connection, build_no, batches, schema)
            _gate(schema)
            shown = _show(connection, build_no, schema)
        except BaseException:
            _drop_schemas(connection, build_no, schema)
            raise
        return {"schema": schema, "batches": batches, "deleted": deleted} | shown


def _alone(connection: Connection, schema: str) -> AbstractContextManager[None]:
    """The right to make or drop one schema."""
    return advisory_lock(connection, f"sampan.as_known.{schema}", f"{schema} is being made by another process")


def _begin(connection: Connection, known_on: date | datetime, basis: str, schema: str) -> tuple[int, int, int]:
    """A build with the batches that were known: its number, how many they are, and how many more were deleted since."""
    if isinstance(known_on, datetime):
        day, until = known_on.date(), known_on if known_on.tzinfo else known_on.replace(tzinfo=HONG_KONG)
    else:
        day, until = known_on, datetime.combine(known_on + timedelta(days=1), datetime.min.time(), HONG_KONG)
    # Where a batch came straight into raw, its receipt is all that is known of when it was published.
    known = {
        "published": "coalesce(published_at, received_at) < %(until)s",
        "delivered": "business_date <= %(day)s",
    }[basis]
    values = {"until": until, "day": day}
    found = connection.execute(
        "select max(business_date) filter (where deleted_at is null), count(*) - count(deleted_at), count(deleted_at)"
        f" from ops.batch where state = 'published' and {known}",
        values,
    ).fetchone()
    as_of_date, batches, deleted = found  # type: ignore[misc]
    if not batches:
        raise PermanentFailure(Problem(Code.AS_KNOWN_NOTHING, f"no batch that is there was {basis} by {known_on}"))
    build_no = connection.execute(
        "insert into ops.build (state, as_of_date, judged_at) values ('as_known', %s, least(%s, ops.now()))"
        " returning build_no",
        [as_of_date, until],
    ).fetchone()[0]  # type: ignore[index]
    connection.execute(
        f"insert into ops.build_batch (build_no, batch_id) select {build_no}, batch_id from ops.batch"
        f" where state = 'published' and deleted_at is null and {known}",
        values,
    )
    connection.execute(
        "insert into ops.as_known (build_no, known_on, known_until, basis, schema_name, deleted_batches)"
        " values (%s, %s, %s, %s, %s, %s)",
        [build_no, day, until if basis == "published" else "infinity", basis, schema, deleted],
    )
    return build_no, batches, deleted


def _build(connection: Connection, build_no: int, batches: int, schema: str) -> None:
    looking_back = build.Build(build_no, "as_known", full_refresh=False, batches=batches)
    session = build.Session(schema)
    for step in build.steps():
        if step in BEFORE:
            with build.environment("", schema, build_no):
                BEFORE[step](connection, f"{schema}_intermediate", build_no)
        results, error = session.invoke(looking_back, step, 0, again=False)
        build.check(looking_back, step, results, error)
    connection.execute("update ops.build set built_at = clock_timestamp() where build_no = %s", [build_no])


def _gate(schema: str) -> None:
    """The marts' own gate: what a release would have been stopped by is not shown here either."""
    critical = [
        f"{mart}: {item.rule}"
        for mart, rules in sorted(expectations.mart_rules().items())
        for item in expectations.validate(mart, rules, schema, mart, settings().dsn("builder"))
        if item.critical
    ]
    if critical:
        raise PermanentFailure(Problem(Code.AS_KNOWN_GATE, f"{schema} breaks {', '.join(critical)}"))


def _show(connection: Connection, build_no: int, schema: str) -> dict[str, int]:
    """Drop what the marts were made from, let the readers in, and note it."""
    with connection.transaction():
        # What banks read under consents has no past: consents are checked now.
        for mart in release.under_row_security(connection, schema):
            connection.execute(sql.SQL("drop table {}").format(sql.Identifier(schema, mart)))
        marts = release.relations(connection, schema)
        _drop_working(connection, schema)
        if release.relations(connection, schema) != marts:
            raise PermanentFailure(Problem(Code.AS_KNOWN_VIEWS, "a mart is a view on what marts are made from"))
        rows = {
            mart: connection.execute(
                sql.SQL("select count(*) from {}").format(sql.Identifier(schema, mart))
            ).fetchone()[0]  # type: ignore[index]
            for mart in marts
        }
        connection.execute("delete from ops.suppression where build_no = %s", [build_no])
        release.grant(connection, schema, schema)
        connection.execute(
            "update ops.as_known set rows = %s, made_at = clock_timestamp() where build_no = %s",
            [Jsonb(rows), build_no],
        )
    return {"marts": len(rows), "rows": sum(rows.values())}


def _drop_schemas(connection: Connection, build_no: int, schema: str) -> None:
    """Drop everything of one look-back, unless a view of somebody's stands on its marts."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("set local lock_timeout = {}").format(release.LOCK_TIMEOUT))
            _drop_working(connection, schema)
            if connection.execute("select to_regnamespace(%s)", [schema]).fetchone() != (None,):
                drop_relations(connection, schema)
                connection.execute(sql.SQL("drop schema {}").format(sql.Identifier(schema)))
            connection.execute("update ops.as_known set dropped_at = clock_timestamp() where build_no = %s", [build_no])
    except psycopg.errors.DependentObjectsStillExist as error:
        message = f"something stands on {schema}: {error.diag.message_primary}"
        raise PermanentFailure(Problem(Code.AS_KNOWN_IN_USE, message)) from error


def _drop_working(connection: Connection, schema: str) -> None:
    for working in WORKING:
        name = sql.Identifier(f"{schema}_{working}")
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(name))


def _forget(connection: Connection, schema: str) -> bool:
    """Drop a schema and what is left of making it; whether there was any."""
    row = connection.execute(
        "select build_no from ops.as_known where schema_name = %s and dropped_at is null", [schema]
    ).fetchone()
    if row is not None:
        _drop_schemas(connection, row[0], schema)
    return row is not None


def drop(schema: str) -> None:
    """Drop the marts as known on a date, and what is left of making them.

    Raises PermanentFailure when there are none or something else stands on them, TransientFailure while they are read.
    """
    with connect("builder") as connection, _alone(connection, schema):
        if not _forget(connection, schema):
            there = ", ".join(item["schema"] for item in kept()) or "none"
            raise PermanentFailure(Problem(Code.AS_KNOWN_UNKNOWN, f"there is no {schema}; there are: {there}"))


def kept() -> list[dict[str, Any]]:
    """What there is, the newest knowledge date first: schema, known_on, basis, begun_at, made_at, rows.

    Of one that is being made, or was not made to its end, made_at is None.
    """
    with connect("builder") as connection:
        found = connection.execute(
            "select schema_name, known_on, basis, opened_at, made_at, rows from ops.as_known join ops.build using (build_no)"
            " where dropped_at is null order by known_on desc, schema_name"
        ).fetchall()
    return [
        {
            "schema": schema,
            "known_on": known_on,
            "basis": basis,
            "begun_at": begun_at,
            "made_at": made_at,
            "rows": rows or {},
        }
        for schema, known_on, basis, begun_at, made_at, rows in found
    ]
