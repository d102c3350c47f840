"""retention: delete what is past its contract's retention, prove that it is gone, and merge the leaves of closed months.

A batch goes from the landing bucket and the drop prefix (all versions of its objects), from raw, from quarantine and from
the persistent tables of dbt; a delivery that was refused at the door goes from the drop prefix. Their rows of the ledger
stay, without content, and `ops.deletion` says what was deleted, when, and when it was found to be absent. What was begun and
not finished is finished by the next run.
"""

from __future__ import annotations

import logging
import re
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from sampan import consent, failpoints
from sampan.calendar import HONG_KONG, today
from sampan.contracts.registry import all_contracts
from sampan.database import advisory_lock, connect
from sampan.errors import Code, PermanentFailure, Problem, SampanError, TransientFailure
from sampan.ingest import ledger
from sampan.marts import as_known, build, release
from sampan.object_store import parse_s3_uri, s3_errors
from sampan.settings import settings

log = logging.getLogger(__name__)
RELEASE_DAYS = 90
# A run that would delete more than half of a feed's batches, and so many, is more likely a mistyped retention than its end.
MANY = 10
Connection = psycopg.Connection[Any]


def run(day: date | None = None, most: bool = False) -> dict[str, int]:
    """Delete what is past its retention on a day (today without one). Returns batches, rows, objects, releases (look-backs
    among them), consents.

    Raises TransientFailure when another run is at work, a builder is, or something is still there after its deletion. When
    all else is done it raises what was left: a look-back that cannot be dropped, and, as a PermanentFailure unless `most` is
    asked for, a feed of whose batches most would go.
    """
    on = day or today()
    done = dict.fromkeys(("batches", "rows", "objects", "releases", "consents"), 0)
    with connect() as connection, _alone(connection):
        _take_back(connection, on)
        refused = _begin_batches(connection, on, most)
        for batch_id in _unfinished(connection, "batch_id"):
            rows, objects = _delete_batch(connection, batch_id)
            done["batches"] += 1
            done["rows"] += rows
            done["objects"] += objects
        for uri in _refused(connection, on):
            done["objects"] += _delete_refused(connection, uri)
        _begin_releases(connection, on)
        for release_no in _unfinished(connection, "release_no"):
            done["releases"] += _delete_release(connection, release_no)
        dropped, failed = _delete_look_backs(on)
        done["releases"] += dropped
        done["consents"] = _delete_consents(connection, on)
    if refused or failed:
        raise [*refused, *failed][0]
    return done


def _alone(connection: Connection) -> AbstractContextManager[None]:
    """The right to maintain the warehouse."""
    return advisory_lock(connection, "sampan.retention", "another run of the maintenance is at work on this warehouse")


def _unfinished(connection: Connection, column: str) -> list[int]:
    query = f"select {column} from ops.deletion where {column} is not null and verified_at is null order by 1"
    return [row[0] for row in connection.execute(query)]


# --- batches ----------------------------------------------------------------------------------------------------------


def _take_back(connection: Connection, on: date) -> None:
    """Forget what was begun of batches that their contracts, mended meanwhile, keep on: nothing of them has gone yet."""
    for contract in all_contracts().values():
        connection.execute(
            "delete from ops.deletion d using ops.batch b where d.batch_id = b.batch_id and d.database_at is null"
            " and b.feed = %s and b.business_date >= %s::date - %s::int",
            [contract.feed, on, contract.retention_days],
        )


def _begin_batches(connection: Connection, on: date, most: bool) -> list[SampanError]:
    """Enter what is due. Returns a complaint for each feed of which nothing is begun, because most of it would go."""
    refused: list[SampanError] = []
    for contract in all_contracts().values():
        terms = {"feed": contract.feed, "days": contract.retention_days, "on": on}
        ((due, kept),) = connection.execute(
            "select count(*) filter (where business_date < %(on)s::date - %(days)s::int and batch_id not in"
            " (select batch_id from ops.deletion where batch_id is not null)), count(*)"
            " from ops.batch where feed = %(feed)s and deleted_at is null",
            terms,
        ).fetchall()
        if due >= MANY and 2 * due > kept and not most:
            message = (
                f"{due} of the {kept} batches of {contract.feed} are older than the {contract.retention_days} days of its"
                " contract, and none was deleted; when that is meant, `sampan retention run --most` deletes them"
            )
            refused.append(PermanentFailure(Problem(Code.RETENTION_MOST, message, contract.path.name)))
            continue
        connection.execute(
            "insert into ops.deletion (kind, feed, batch_id, content_sha256, reason)"
            " select 'batch', feed, batch_id, content_sha256, format('kept %%s days from %%s', %(days)s::int, business_date)"
            " from ops.batch where feed = %(feed)s and business_date < %(on)s::date - %(days)s::int"
            " and deleted_at is null on conflict do nothing",
            terms,
        )
    return refused


def _delete_batch(connection: Connection, batch_id: int) -> tuple[int, int]:
    """Delete a batch wherever it is, and look that it is gone. Returns rows and objects that went now."""
    feed, landing = connection.execute(
        "select feed, landing_uri from ops.batch where batch_id = %s", [batch_id]
    ).fetchone()  # type: ignore[misc]
    uris = [landing, *(row[0] for row in connection.execute(
        "select distinct source_uri from ops.delivery where batch_id = %s order by 1", [batch_id]
    ))]  # fmt: skip
    versions = [version for uri in uris for version in _versions(uri)]
    _note_objects(connection, "batch_id", batch_id, versions)
    rows = _delete_rows(connection, feed, batch_id)
    failpoints.hit("retention.after_rows")
    _delete_objects(versions)
    rows += _delete_derived(connection, batch_id)
    failpoints.hit("retention.before_verified")
    left = [version["key"] for uri in uris for version in _versions(uri)] + _tables_with(connection, feed, batch_id)
    if left:
        raise TransientFailure(f"batch {batch_id} was deleted and is still in {', '.join(sorted(set(left)))}")
    with connection.transaction():
        connection.execute("update ops.deletion set verified_at = clock_timestamp() where batch_id = %s", [batch_id])
        connection.execute("update ops.delivery set deleted_at = clock_timestamp() where batch_id = %s", [batch_id])
    return rows, len(versions)


def _refused(connection: Connection, on: date) -> list[str]:
    """Where deliveries lie that were refused at the door and are past their feed's retention, by date of receipt where
    they name no other. What was begun of them is among these until it is done.
    """
    found = []
    for contract in all_contracts().values():
        found += connection.execute(
            "select source_uri from ops.delivery where feed = %s and batch_id is null and deleted_at is null"
            " group by source_uri having bool_and(problem is not null)"
            " and max(coalesce(business_date, received_at::date)) < %s::date - %s::int order by 1",
            [contract.feed, on, contract.retention_days],
        ).fetchall()
    return [uri for (uri,) in found]


def _delete_refused(connection: Connection, uri: str) -> int:
    """Delete a refused delivery from the drop prefix, and look that it is gone. Returns how many objects went now."""
    versions = _versions(uri)
    connection.execute(
        "insert into ops.deletion (kind, feed, source_uri, reason)"
        " select 'delivery', feed, source_uri, format('refused: %%s', problem ->> 'rule') from ops.delivery"
        " where source_uri = %s and batch_id is null and problem is not null and deleted_at is null limit 1"
        " on conflict (source_uri) where verified_at is null do nothing",
        [uri],
    )
    _note_objects(connection, "source_uri", uri, versions)
    _delete_objects(versions)
    if _versions(uri):
        raise TransientFailure(f"{uri} was deleted and is still there")
    with connection.transaction():
        connection.execute(
            "update ops.deletion set verified_at = clock_timestamp() where source_uri = %s and verified_at is null",
            [uri],
        )
        connection.execute("update ops.delivery set deleted_at = clock_timestamp() where source_uri = %s", [uri])
    return len(versions)


def _note_objects(connection: Connection, column: str, what: int | str, versions: list[dict[str, Any]]) -> None:
    """Enter objects with the deletion of what they hold before they go: a run that dies leaves behind what they were."""
    connection.execute(
        "update ops.deletion set objects = objects || coalesce((select jsonb_agg(new) from jsonb_array_elements(%s) new"
        f" where not objects @> jsonb_build_array(new)), '[]') where {column} = %s and verified_at is null",
        [Jsonb(versions), what],
    )
    failpoints.hit("retention.after_note")


def _delete_objects(versions: list[dict[str, Any]]) -> None:
    with s3_errors():
        for version in versions:
            settings().s3().delete_object(Bucket=version["bucket"], Key=version["key"], VersionId=version["version"])
            failpoints.hit("retention.after_object")


def _versions(uri: str) -> list[dict[str, Any]]:
    """Every version of an object, markers of deletion included."""
    bucket, key = parse_s3_uri(uri)
    with s3_errors():
        pages = settings().s3().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key)
        return [
            {"bucket": bucket, "key": key, "version": item["VersionId"], "bytes": item.get("Size", 0)}
            for page in pages
            for item in page.get("Versions", []) + page.get("DeleteMarkers", [])
            if item["Key"] == key
        ]


def _delete_rows(connection: Connection, feed: str, batch_id: int) -> int:
    """Take a batch out of intake, raw and quarantine, in one transaction with the ledger."""
    with ledger.transaction(connection):
        token, deleted = connection.execute(
            "update ops.batch set token = token + 1 where batch_id = %s returning token, deleted_at", [batch_id]
        ).fetchone()  # type: ignore[misc]
        if deleted is not None:
            return 0
        if feed == consent.FEED:
            consent.keep_revocations(connection, batch_id)
        raw = _drop_from_raw(connection, feed, batch_id)
        for table in (f"{feed}__b{batch_id}", f"{feed}__b{batch_id}__rejects"):
            connection.execute(sql.SQL("drop table if exists intake.{}").format(sql.Identifier(table)))
        connection.execute(
            "delete from ops.replay_line l using quarantine.record q where q.feed = %(feed)s and q.batch_id = %(batch)s"
            " and l.feed = q.feed and l.quarantine_id = q.quarantine_id",
            {"feed": feed, "batch": batch_id},
        )
        connection.execute("delete from ops.replay_line where batch_id = %s", [batch_id])
        quarantined = connection.execute(
            "delete from quarantine.record where feed = %s and batch_id = %s", [feed, batch_id]
        ).rowcount
        # What was still on its way has nowhere to come from any more.
        gone = Problem(Code.RETENTION_ENDED, "deleted at the end of its retention before it was published")
        connection.execute(
            "update ops.batch set deleted_at = clock_timestamp(),"
            " problem = case when state in ('published', 'held') then problem else %s end,"
            " rows_in = case when state = 'published' then rows_in end,"
            " rows_quarantined = case when state = 'published' then rows_quarantined end,"
            " rows_duplicate = case when state = 'published' then rows_duplicate end,"
            " state = case when state = 'published' then state else 'held' end where batch_id = %s and token = %s",
            [Jsonb(gone.as_dict()), batch_id, token],
        )
        connection.execute(
            "update ops.deletion set rows_raw = %s, rows_quarantined = %s, database_at = clock_timestamp()"
            " where batch_id = %s",
            [raw, quarantined, batch_id],
        )
        failpoints.hit("retention.before_commit")
    return int(raw + quarantined)


def _drop_from_raw(connection: Connection, feed: str, batch_id: int) -> int:
    """Drop the leaf of a batch, or its rows where the leaf has other batches too. Returns how many rows went."""
    leaf = next((leaf for leaf in _leaves(connection, feed) if batch_id in leaf[1]), None)
    if leaf is None:
        return 0
    name, batches = sql.Identifier("raw", leaf[0]), leaf[1]
    rows = connection.execute(
        sql.SQL("select count(*) from {} where _batch_id = %s").format(name), [batch_id]
    ).fetchone()[0]  # type: ignore[index]
    others = connection.execute(
        "select count(*) from ops.batch where batch_id = any(%s) and batch_id <> %s and deleted_at is null",
        [batches, batch_id],
    ).fetchone()[0]  # type: ignore[index]
    if others:
        connection.execute(sql.SQL("delete from {} where _batch_id = %s").format(name), [batch_id])
    else:
        connection.execute(sql.SQL("drop table {}").format(name))
    return int(rows)


def _leaves(connection: Connection, feed: str) -> list[tuple[str, list[int]]]:
    """The leaves of raw.<feed>: name, and the numbers of the batches in it."""
    rows = connection.execute(
        "select c.relname, pg_get_expr(c.relpartbound, c.oid) from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = to_regclass(format('raw.%%I', %s::text)) order by 1",
        [feed],
    ).fetchall()
    return [(name, [int(number) for number in re.findall(r"[0-9]+", bound)]) for name, bound in rows]


def _derived_tables(connection: Connection) -> list[str]:
    """Persistent tables of dbt whose rows name the batch that they came from."""
    query = (
        "select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'batch_id'"
        " where c.relnamespace = to_regnamespace('intermediate') and c.relkind = 'r' order by 1"
    )
    return [row[0] for row in connection.execute(query)]


def _delete_derived(connection: Connection, batch_id: int) -> int:
    with build.lock() as builder, builder.transaction():
        rows = sum(
            builder.execute(
                sql.SQL("delete from intermediate.{} where batch_id = %s").format(sql.Identifier(table)), [batch_id]
            ).rowcount
            for table in _derived_tables(builder)
        )
    connection.execute(
        "update ops.deletion set rows_derived = coalesce(rows_derived, 0) + %s where batch_id = %s", [rows, batch_id]
    )
    return rows


def _tables_with(connection: Connection, feed: str, batch_id: int) -> list[str]:
    """Tables in which a row of the batch is left."""
    found = []
    with connect("builder") as builder:
        places = [(connection, "raw", feed, "_batch_id"), (connection, "quarantine", feed, "batch_id")]
        places += [(builder, "intermediate", table, "batch_id") for table in _derived_tables(builder)]
        for reader, schema, table, column in places:
            query = sql.SQL("select exists (select from {} where {} = %s)").format(
                sql.Identifier(schema, table), sql.Identifier(column)
            )
            if reader.execute(query, [batch_id]).fetchone()[0]:  # type: ignore[index]
                found.append(f"{schema}.{table}")
    intake = f"{feed}__b{batch_id}"
    for schema in ("intake", "raw"):
        if connection.execute("select to_regclass(format('%%I.%%I', %s::text, %s::text))", [schema, intake]).fetchone()[
            0
        ]:  # type: ignore[index]
            found.append(f"{schema}.{intake}")
    return found


# --- releases and consents --------------------------------------------------------------------------------------------


def _release_days() -> int:
    return int(settings().get("SAMPAN_RELEASE_DAYS", str(RELEASE_DAYS)))


def _kept_since(on: date) -> datetime:
    """What is of an earlier time than this is kept no longer on a day: its first moment in Hong Kong, less the days."""
    return datetime(on.year, on.month, on.day, tzinfo=HONG_KONG) - timedelta(days=_release_days())


def _delete_look_backs(on: date) -> tuple[int, list[SampanError]]:
    """Drop marts as known on earlier dates that were made, or begun and left, longer ago than releases are kept.

    Returns how many, and why others could not be dropped: one is used, or is being made right now.
    """
    dropped, failed = 0, []
    for item in as_known.kept():
        if (item["made_at"] or item["begun_at"]) < _kept_since(on):
            try:
                as_known.drop(item["schema"])
                dropped += 1
            except SampanError as error:
                log.warning("%s stays: %s", item["schema"], error)
                failed.append(error)
    return dropped, failed


def _begin_releases(connection: Connection, on: date) -> None:
    days = _release_days()
    live = release.live_release(connection)
    connection.execute(
        "insert into ops.deletion (kind, release_no, reason, rows_derived)"
        " select 'release', release_no, format('kept %%s days', %(days)s::int),"
        " (select sum(value::bigint) from jsonb_each_text(rows)) from ops.release"
        " where dropped_at is null and release_no is distinct from %(live)s and released_at < %(before)s"
        " on conflict do nothing",
        {"days": days, "live": live, "before": _kept_since(on)},
    )


def _delete_release(connection: Connection, release_no: int) -> int:
    """Drop a release that nobody reads. Returns 1, or 0 when a reader, or a rollback to it, stands in the way until later."""
    with build.lock() as builder:
        if release.live_release(builder) != release_no:
            release.drop_release(builder, release_no)
    gone = connection.execute(
        "update ops.deletion set database_at = clock_timestamp(), verified_at = clock_timestamp()"
        " where release_no = %s and to_regnamespace(%s) is null",
        [release_no, f"release_{release_no}"],
    )
    return gone.rowcount


def _delete_consents(connection: Connection, on: date) -> int:
    """Forget consents that ended longer ago than their feed is kept. Revocations stay: a number must not come alive again."""
    days = all_contracts()[consent.FEED].retention_days
    with connection.transaction():
        gone = connection.execute(
            "delete from ops.consent c where greatest(status_at::date, (select max(valid_to) from ops.consent_change h"
            " where h.consent_id = c.consent_id)) < %s::date - %s::int",
            [on, days],
        ).rowcount
        if gone:
            connection.execute(
                "insert into ops.deletion (kind, feed, reason, rows_derived, database_at, verified_at)"
                " values ('consents', %s, %s, %s, clock_timestamp(), clock_timestamp())",
                [consent.FEED, f"ended more than {days} days before {on}", gone],
            )
    return gone


def proofs(limit: int = 50) -> list[tuple[Any, ...]]:
    """The newest deletions: kind, of what, reason, SHA-256, objects, rows, when it was verified."""
    with connect() as connection:
        return connection.execute(
            "select kind, coalesce(feed || ' batch ' || batch_id, 'release ' || release_no, source_uri, feed), reason,"
            " content_sha256,"
            " jsonb_array_length(objects), coalesce(rows_raw, 0) + coalesce(rows_quarantined, 0) + coalesce(rows_derived, 0),"
            " verified_at from ops.deletion order by deletion_id desc limit %s",
            [limit],
        ).fetchall()


# --- closed months ----------------------------------------------------------------------------------------------------


def merge(day: date | None = None) -> dict[str, int]:
    """Merge the leaves of raw of every month that closed at least a month ago into one each. Returns leaves before, after.

    A month's leaf lists the batches that it holds, so no model notices. What comes for the month later has a leaf of its own
    until the next merge.
    """
    first = (day or today()).replace(day=1)
    before = (first - timedelta(days=1)).replace(day=1)
    done = {"before": 0, "after": 0}
    with connect() as connection, _alone(connection):
        for feed in all_contracts():
            months: dict[str, set[str]] = {}
            leaves = dict(_leaves(connection, feed))
            known = dict(
                connection.execute(
                    "select batch_id, to_char(business_date, 'YYYYMM') from ops.batch where feed = %s and business_date < %s",
                    [feed, before],
                ).fetchall()
            )
            for leaf, batches in leaves.items():
                found = {known.get(batch) for batch in batches}
                if len(found) == 1 and (month := found.pop()):
                    months.setdefault(month, set()).add(leaf)
            for month, names in sorted(months.items()):
                if len(names) > 1:
                    batches = sorted(batch for name in names for batch in leaves[name])
                    # A lower number may be published later: how many there are tells such a leaf from the one before.
                    target = f"{feed}__m{month}_{batches[-1]}_{len(batches)}"
                    _merge(connection, feed, sorted(names), target, batches)
                    done["before"] += len(names)
                    done["after"] += 1
    return done


def _merge(connection: Connection, feed: str, names: list[str], target: str, batches: list[int]) -> None:
    """Put leaves into one, in one transaction; the old ones are dropped with it."""
    parent, leaf = sql.Identifier("raw", feed), sql.Identifier("raw", target)
    parts = [sql.Identifier("raw", name) for name in names]
    numbers = sql.SQL(", ").join(map(sql.Literal, batches))
    columns = sql.SQL(", ").join(
        sql.Identifier(row[0])
        for row in connection.execute(
            "select attname from pg_attribute where attrelid = to_regclass(format('raw.%%I', %s::text)) and attnum > 0"
            " and not attisdropped order by attnum",
            [feed],
        )
    )
    with ledger.transaction(connection):
        connection.execute(sql.SQL("create table {} (like {})").format(leaf, parent))
        # With it the attachment needs no scan.
        check = sql.SQL(
            "alter table {} add constraint of_its_batches check (_batch_id in ({}) and _batch_id is not null)"
        )
        connection.execute(check.format(leaf, numbers))
        for part in parts:
            copy = sql.SQL("insert into {} ({columns}) select {columns} from {}")
            connection.execute(copy.format(leaf, part, columns=columns))
        for part in parts:
            connection.execute(sql.SQL("drop table {}").format(part))
        attach = sql.SQL("alter table {} attach partition {} for values in ({})")
        connection.execute(attach.format(parent, leaf, numbers))
        connection.execute(sql.SQL("alter table {} drop constraint of_its_batches").format(leaf))
        failpoints.hit("retention.before_merge_commit")
