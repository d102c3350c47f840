"""Delete data past its contract's retention, and verify that it is gone.

A batch is deleted from the landing bucket, the lake and the drop prefix (all versions of its objects), from raw, from
quarantine and from dbt's persistent tables; a refused delivery is deleted from the drop prefix. Their ledger rows stay,
without content, and `ops.deletion` records what was deleted, when, and when it was verified to be gone. The next run
finishes what a crashed run began.
"""

from __future__ import annotations

import logging
import re
import shutil
from datetime import date, datetime, timedelta
from typing import Any, LiteralString
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from sampan import failpoints, feed_hooks, object_store
from sampan.alerts import raise_alert
from sampan.calendar import HONG_KONG, today
from sampan.contracts.registry import all_contracts, get_contract
from sampan.database import Connection, connect, one, scalar
from sampan.engine import all_engines
from sampan.errors import Code, PermanentFailure, Problem, SampanError, TransientFailure
from sampan.governance.partitions import maintenance_lock, partitions
from sampan.ingest import lake, ledger
from sampan.marts import as_known, build, release
from sampan.object_store import parse_s3_uri, s3_errors
from sampan.reading.shown import shown, shown_uri
from sampan.settings import settings

log = logging.getLogger(__name__)
# Days after which an upload in parts that was never completed is aborted: no delivery takes that long.
UPLOAD_DAYS = 7
# Deleting more than half of a feed's batches, and at least this many, is more likely a mistyped retention than intended.
MASS_DELETE_BATCHES = 10
# How long the rewrite of the table of rejected rows waits for those who use it; the gate waits behind it.
REWRITE_WAITS = "5s"
PAGES_REASON = "pages of a release that is older than {} days"
# How many folders of uploads an alert names.
NAMED = 10
LOOKED_AT_VERSIONS = "every version and delete marker that S3 lists; what the service keeps behind S3 is not known"
LOOKED_AT_PIECES = (
    "every version and delete marker that S3 lists, and every piece of content in SeaweedFS, by its file id"
)


def run(day: date | None = None, allow_mass_delete: bool = False) -> dict[str, int]:
    """Delete everything that is past its retention on a day (today without one).

    Returns how many batches, rows, objects, releases (with marts as known on earlier dates), releases whose pages were
    kept, uploads that were never completed, and consents were deleted.
    Raises TransientFailure when maintenance or a build is running, or when something is still found after its deletion. At
    the end it raises an error if a release, marts as known on an earlier date or the table of rejected rows are in use and,
    without `allow_mass_delete`, a PermanentFailure if a feed would lose most of its batches.
    """
    on = day or today()
    done = dict.fromkeys(("batches", "rows", "objects", "releases", "pages", "uploads"), 0)
    with connect() as connection, maintenance_lock():
        # First: what ended by the calendar must not stay because something else cannot be deleted.
        feed_hooks.clean_up_all()
        _cancel_pending(connection, on)
        refused = _begin_batches(connection, on, allow_mass_delete)
        batches, refused_deliveries = _unfinished(connection, "batch_id"), _refused(connection, on)
        for batch_id in batches:
            rows, objects = _delete_batch(connection, batch_id)
            done["batches"] += 1
            done["rows"] += rows
            done["objects"] += objects
        for _, uri in refused_deliveries:
            done["objects"] += _delete_refused(connection, uri)
        in_use = _rewrite_quarantine(connection) if batches else []
        looked_at = _forget(connection, "batch", "delivery")
        for batch_id in [] if in_use else batches:
            _verify_batch(connection, batch_id, looked_at)
        for feed, uri in refused_deliveries:
            _verify_refused(connection, feed, uri, looked_at)
        _begin_releases(connection, on)
        for release_no in _unfinished(connection, "release_no"):
            try:
                done["releases"] += _delete_release(connection, release_no)
            except PermanentFailure as error:
                raise_alert(connection, "retention", None, str(error))
                refused.append(error)
        dropped, failed = _delete_look_backs(on)
        done["releases"] += dropped
        done["pages"] = len(_clear_local_pages(connection, on) | _clear_pages(connection, on))
        done |= feed_hooks.delete_expired(connection, on)
        done["uploads"] = _clear_uploads(connection, on)
        _forget_messages(connection)
        _end_requests(connection)
    if refused or failed or in_use:
        raise [*refused, *failed, *in_use][0]
    return done


def _unfinished(connection: Connection, column: str) -> list[int]:
    query = f"select {column} from ops.deletion where {column} is not null and verified_at is null order by 1"
    return [row[0] for row in connection.execute(query)]


# --- batches ----------------------------------------------------------------------------------------------------------


def _cancel_pending(connection: Connection, on: date) -> None:
    """Cancel pending deletions of batches that are within retention again because their contract was corrected."""
    for contract in all_contracts().values():
        connection.execute(
            """
            delete from ops.deletion as d using ops.batch as b
            where d.batch_id = b.batch_id and d.database_at is null
                and b.feed = %s and b.business_date >= %s::date - %s::int
            """,
            [contract.feed, on, contract.retention_days],
        )


def _begin_batches(connection: Connection, on: date, allow_mass_delete: bool) -> list[SampanError]:
    """Record the batches to delete. Returns an error for each feed that is skipped because most of it would be deleted."""
    refused: list[SampanError] = []
    for contract in all_contracts().values():
        terms = {"feed": contract.feed, "days": contract.retention_days, "on": on}
        due, kept = one(
            connection,
            """
            select
                count(*) filter (
                    where business_date < %(on)s::date - %(days)s::int
                        and batch_id not in (select batch_id from ops.deletion where batch_id is not null)
                ),
                count(*)
            from ops.batch
            where feed = %(feed)s and deleted_at is null
            """,
            terms,
        )
        if due >= MASS_DELETE_BATCHES and 2 * due > kept and not allow_mass_delete:
            message = (
                f"{due} of the {kept} batches of {contract.feed} are past the retention of {contract.retention_days} days;"
                " none was deleted. Check the contract; if it is right, run `sampan retention run --allow-mass-delete`"
            )
            refused.append(PermanentFailure(Problem(Code.RETENTION_MOST, message, contract.path.name)))
            continue
        connection.execute(
            """
            insert into ops.deletion (kind, feed, batch_id, content_sha256, reason)
            select 'batch', feed, batch_id, content_sha256, format('kept %%s days from %%s', %(days)s::int, business_date)
            from ops.batch
            where feed = %(feed)s and business_date < %(on)s::date - %(days)s::int and deleted_at is null
            on conflict do nothing
            """,
            terms,
        )
    return refused


def _delete_batch(connection: Connection, batch_id: int) -> tuple[int, int]:
    """Delete a batch everywhere. Returns how many rows and objects were deleted."""
    feed = scalar(connection, "select feed from ops.batch where batch_id = %s", [batch_id])
    versions = [version for uri in _addresses(connection, batch_id) for version in _versions(uri)]
    _record_objects(connection, "batch_id", batch_id, versions)
    rows = _delete_rows(connection, feed, batch_id)
    failpoints.hit("retention.after_rows")
    _delete_objects(versions)
    rows += _delete_derived(connection, batch_id)
    return rows, len(versions)


def _verify_batch(connection: Connection, batch_id: int, looked_at: str) -> None:
    """Record that a batch is gone. Raises TransientFailure when it is still found somewhere."""
    failpoints.hit("retention.before_verified")
    feed = scalar(connection, "select feed from ops.batch where batch_id = %s", [batch_id])
    uris = _addresses(connection, batch_id)
    kept = [shown_uri(get_contract(feed), uri) for uri in uris if _versions(uri)]
    left = kept + _tables_with(connection, feed, batch_id)
    if left:
        raise TransientFailure(f"batch {batch_id} was deleted but is still found in {', '.join(sorted(set(left)))}")
    with connection.transaction():
        _forget_names(connection, feed, "batch_id", batch_id, _delivered(connection, batch_id), looked_at)
        connection.execute("delete from ops.lake_object where batch_id = %s", [batch_id])
        connection.execute(
            """
            update ops.batch set source_uri = ops.without_name(source_uri), problem = problem - 'file'
            where batch_id = %s and origin = 'delivery'
            """,
            [batch_id],
        )


def _addresses(connection: Connection, batch_id: int) -> list[str]:
    """Where the objects of a batch are: in landing, in the lake if it came there, and each delivery in the drop prefix."""
    landing = scalar(connection, "select landing_uri from ops.batch where batch_id = %s", [batch_id])
    in_lake = lake.uri_if_begun(connection, batch_id)
    return [landing, *([in_lake] if in_lake else []), *_delivered(connection, batch_id)]


def _delivered(connection: Connection, batch_id: int) -> list[str]:
    query = "select distinct source_uri from ops.delivery where batch_id = %s order by 1"
    return [uri for (uri,) in connection.execute(query, [batch_id])]


def _forget_names(
    connection: Connection, feed: str, column: str, what: int | str, uris: list[str], looked_at: str
) -> None:
    """Enter in the ledger that deliveries are verified to be gone, and where; take the names of their files from it."""
    contract = get_contract(feed)
    connection.execute(
        sql.SQL(
            """
            update ops.deletion set
                verified_at = clock_timestamp(),
                looked_at = %s,
                source_uri = ops.without_name(source_uri),
                objects = ops.without_names(objects)
            where {} = %s and verified_at is null
            """
        ).format(sql.Identifier(column)),
        [looked_at, what],
    )
    connection.execute(
        sql.SQL(
            """
            update ops.delivery set
                deleted_at = clock_timestamp(),
                -- The next delivery may have the same name and content.
                source_uri = ops.without_name(source_uri) || '-' || gen_random_uuid(),
                problem = problem - 'file'
            where {} = %s and deleted_at is null
            """
        ).format(sql.Identifier(column)),
        [what],
    )
    for uri in uris:
        name = shown_uri(contract, uri)
        connection.execute(
            """
            update ops.alert set message = replace(
                replace(message, %(uri)s::text, ops.without_name(%(uri)s::text)),
                ' ' || %(file)s::text || ':',
                ' deleted:'
            )
            where feed = %(feed)s and position(%(file)s::text in message) > 0
            """,
            {"uri": name, "file": name.rsplit("/", 1)[-1], "feed": feed},
        )


def _forget_messages(connection: Connection) -> None:
    """Delete the texts of messages about alerts that were not sent within a week: they may name files."""
    connection.execute(
        """
        update ops.alert_message set body = null
        where body is not null and made_at < clock_timestamp() - interval '7 days'
        """
    )


def _end_requests(connection: Connection) -> None:
    """Refuse corrections of rows that are not there any more, which no one can carry out: their values are those rows'."""
    connection.execute(
        """
        update ops.request as asked set
            state = 'refused',
            outcome = 'its rows are not in quarantine any more',
            ended_at = clock_timestamp(),
            subject = subject - 'rows'
        where state = 'asked' and exists (
            select from jsonb_path_query(subject, '$.rows[*]') as given
            where not exists (
                select from quarantine.record
                where record.feed = asked.feed and record.state = 'open'
                    and record.quarantine_id::text = given ->> '_quarantine_id'
            )
        )
        """
    )


def _refused(connection: Connection, on: date) -> list[tuple[str, str]]:
    """Feed and address of each refused delivery past its retention, including those that a crashed run began to delete.

    A delivery without a business date counts by its date of receipt. One with a key that the ledger cannot hold stays.
    """
    found = []
    for contract in all_contracts().values():
        found += connection.execute(
            """
            select feed, source_uri from ops.delivery
            where feed = %s and batch_id is null and deleted_at is null
                and problem ->> 'rule' is distinct from %s
            group by feed, source_uri
            having bool_and(problem is not null)
                and max(coalesce(business_date, received_at::date)) < %s::date - %s::int
            order by 2
            """,
            [contract.feed, Code.DELIVERY_KEY, on, contract.retention_days],
        ).fetchall()
    return found


def _delete_refused(connection: Connection, uri: str) -> int:
    """Delete a refused delivery from the drop prefix. Returns how many objects were deleted."""
    versions = _versions(uri)
    connection.execute(
        """
        insert into ops.deletion (kind, feed, source_uri, reason)
        select 'delivery', feed, source_uri, format('refused: %%s', problem ->> 'rule')
        from ops.delivery
        where source_uri = %s and batch_id is null and problem is not null and deleted_at is null
        limit 1
        on conflict (source_uri) where verified_at is null do nothing
        """,
        [uri],
    )
    _record_objects(connection, "source_uri", uri, versions)
    _delete_objects(versions)
    return len(versions)


def _verify_refused(connection: Connection, feed: str, uri: str, looked_at: str) -> None:
    """Record that a refused delivery is gone. Raises TransientFailure when it still exists."""
    if _versions(uri):
        raise TransientFailure(f"{shown_uri(get_contract(feed), uri)} was deleted but still exists")
    with connection.transaction():
        _forget_names(connection, feed, "source_uri", uri, [uri], looked_at)


def _record_objects(connection: Connection, column: str, what: int | str, versions: list[dict[str, Any]]) -> None:
    """Record the objects of a deletion before they are deleted, so that a crash does not lose the record of them."""
    connection.execute(
        sql.SQL(
            """
            update ops.deletion
            set objects = objects || coalesce(
                (select jsonb_agg(new) from jsonb_array_elements(%s) as new where not objects @> jsonb_build_array(new)),
                '[]'
            )
            where {} = %s and verified_at is null
            """
        ).format(sql.Identifier(column)),
        [Jsonb(versions), what],
    )
    failpoints.hit("retention.after_note")


def _delete_objects(versions: list[dict[str, Any]]) -> None:
    with s3_errors():
        for version in versions:
            settings().s3().delete_object(Bucket=version["bucket"], Key=version["key"], VersionId=version["version"])
            failpoints.hit("retention.after_object")


def _versions(uri: str) -> list[dict[str, Any]]:
    """Every version of an object, including delete markers; the first one with the file ids of all content in SeaweedFS."""
    bucket, key = parse_s3_uri(uri)
    with s3_errors():
        found = [version for version in _versions_under(bucket, key) if version["key"] == key]
        # SeaweedFS lists the versions of a key with control characters under another key.
        if not found and not key.isprintable():
            found = _version_by_name(bucket, key)
    store = object_store.seaweedfs()
    if found and store is not None:
        found[0]["pieces"] = store.pieces(bucket, key)
    return found


def _versions_under(bucket: str, prefix: str) -> list[dict[str, Any]]:
    """Every version of every object under a prefix, including delete markers."""
    with s3_errors():
        pages = settings().s3().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
        return [
            {"bucket": bucket, "key": item["Key"], "version": item["VersionId"], "bytes": item.get("Size", 0)}
            for page in pages
            for item in page.get("Versions", []) + page.get("DeleteMarkers", [])
        ]


def _version_by_name(bucket: str, key: str) -> list[dict[str, Any]]:
    head = object_store.head_if_present(settings().s3(), bucket, key)
    if head is None:
        return []
    version = head.get("VersionId", "null")
    return [{"bucket": bucket, "key": key, "version": version, "bytes": head["ContentLength"]}]


def _clear_uploads(connection: Connection, on: date) -> int:
    """Abort uploads that were never completed, and verify that they are gone. Returns how many.

    Where the store denies the loader the rights for it, an alert says so, and everything else goes on.
    """
    try:
        aborted = _abort_uploads(connection, on)
        _verify_uploads(connection, on, _forget(connection, "upload"))
    except object_store.ObjectRefused as error:
        message = (
            f"uploads that were never completed are kept, with what was delivered in them: {error}. Give the loader's"
            " user s3:ListBucketMultipartUploads and s3:AbortMultipartUpload, as `sampan contracts policy` prints them"
        )
        raise_alert(connection, "retention", None, message)
        log.warning("%s", message)
        return 0
    return aborted


def _stale_uploads(on: date) -> list[dict[str, str]]:
    """Uploads in parts that were begun more than UPLOAD_DAYS before a day: bucket, key, upload."""
    before = datetime(on.year, on.month, on.day, tzinfo=HONG_KONG) - timedelta(days=UPLOAD_DAYS)
    with s3_errors():
        pages = settings().s3().get_paginator("list_multipart_uploads")
        return [
            {"bucket": bucket, "key": item["Key"], "upload": item["UploadId"]}
            for bucket in (settings().drop_bucket, settings().landing_bucket)
            for page in pages.paginate(Bucket=bucket)
            for item in page.get("Uploads", [])
            if item["Initiated"] < before
        ]


def _abort_uploads(connection: Connection, on: date) -> int:
    """Abort uploads that were never completed: their parts are kept, and no one sees them. Returns how many."""
    stale, store = _stale_uploads(on), object_store.seaweedfs()
    for item in stale:
        pieces = {"pieces": store.pieces_of_upload(item["bucket"], item["upload"])} if store else {}
        # Quoted: a text of the database cannot hold every key.
        key = quote(item["key"], safe="/", errors="surrogatepass")
        connection.execute(
            """
            insert into ops.deletion (kind, source_uri, reason, objects, database_at)
            values ('upload', %s, %s, jsonb_build_array(%s), clock_timestamp())
            on conflict (source_uri) where verified_at is null do nothing
            """,
            [
                f"s3://{item['bucket']}/{key}?uploadId={item['upload']}",
                f"begun more than {UPLOAD_DAYS} days before {on} and never completed",
                Jsonb({"bucket": item["bucket"], "key": key, **pieces}),
            ],
        )
        with s3_errors():
            settings().s3().abort_multipart_upload(Bucket=item["bucket"], Key=item["key"], UploadId=item["upload"])
    if stale:
        # Alerts are kept, and the name of a file may be that of a person.
        folders = sorted({f"{item['bucket']}/{_own_folder(item['key'])}" for item in stale})
        message = (
            f"{len(stale)} uploads were begun more than {UPLOAD_DAYS} days before {on}, never completed, and are aborted: in"
            f" {', '.join(folders[:NAMED])}{', ...' if len(folders) > NAMED else ''}. Ask the partner whether a delivery is"
            " missing"
        )
        raise_alert(connection, "retention", None, message)
        log.warning("%s", message)
    return len(stale)


def _own_folder(key: str) -> str:
    """The folder of a feed and a date that a key is in; nothing of a folder that a partner named."""
    found = re.match(r"(?:[a-z0-9_]+/){1,2}[0-9]{4}-[0-9]{2}-[0-9]{2}/", key)
    return found.group() if found else ""


def _verify_uploads(connection: Connection, on: date, looked_at: str) -> None:
    """Record that aborted uploads are gone. Raises TransientFailure when one is still listed."""
    if _stale_uploads(on):
        raise TransientFailure("uploads that were aborted are still listed; run it again")
    connection.execute(
        """
        update ops.deletion set
            verified_at = clock_timestamp(),
            looked_at = %s,
            source_uri = ops.without_name(source_uri),
            objects = ops.without_names(objects)
        where kind = 'upload' and verified_at is null
        """,
        [looked_at],
    )


def _forget(connection: Connection, *kinds: str) -> str:
    """Make the object store give up the content of what was deleted of these kinds. Returns what was looked at.

    What a run has recorded and not yet deleted, of another kind, is still served: it is deleted later.

    Raises TransientFailure when a piece of it is still served.
    """
    store = object_store.seaweedfs()
    if store is None:
        return LOOKED_AT_VERSIONS
    recorded = connection.execute(
        """
        select distinct piece
        from ops.deletion, jsonb_array_elements(objects) as object, jsonb_array_elements_text(object -> 'pieces') as piece
        where verified_at is null and kind = any(%s)
        """,
        [[*kinds]],
    )
    left = store.forget([piece for (piece,) in recorded])
    if left:
        raise TransientFailure(f"SeaweedFS still serves deleted content: {', '.join(left[:10])}; run it again")
    return LOOKED_AT_PIECES


def _delete_rows(connection: Connection, feed: str, batch_id: int) -> int:
    """Delete a batch from intake, raw and quarantine, in one transaction with the ledger. Returns how many rows."""
    with ledger.transaction(connection):
        query = "update ops.batch set token = token + 1 where batch_id = %s returning token, deleted_at"
        token, deleted = one(connection, query, [batch_id])
        if deleted is not None:
            return 0
        feed_hooks.before_delete(connection, feed, batch_id)
        raw = _drop_from_raw(connection, feed, batch_id)
        for table in (f"{feed}__b{batch_id}", f"{feed}__b{batch_id}__rejects"):
            connection.execute(sql.SQL("drop table if exists intake.{}").format(sql.Identifier(table)))
        connection.execute(
            """
            delete from ops.replay_line as l using quarantine.record as q
            where q.feed = %(feed)s and q.batch_id = %(batch)s and l.feed = q.feed and l.quarantine_id = q.quarantine_id
            """,
            {"feed": feed, "batch": batch_id},
        )
        connection.execute("delete from ops.replay_line where batch_id = %s", [batch_id])
        quarantined = connection.execute(
            "delete from quarantine.record where feed = %s and batch_id = %s", [feed, batch_id]
        ).rowcount
        # A batch that was not published yet cannot be processed any more.
        gone = Problem(Code.RETENTION_ENDED, "deleted at the end of its retention before it was published")
        connection.execute(
            """
            update ops.batch set
                deleted_at = clock_timestamp(),
                problem = case when state in ('published', 'withdrawn', 'held') then problem else %s end,
                rows_in = case when state in ('published', 'withdrawn') then rows_in end,
                rows_quarantined = case when state in ('published', 'withdrawn') then rows_quarantined end,
                rows_duplicate = case when state in ('published', 'withdrawn') then rows_duplicate end,
                state = case when state in ('published', 'withdrawn') then state else 'held' end
            where batch_id = %s and token = %s
            """,
            [Jsonb(gone.as_dict()), batch_id, token],
        )
        connection.execute(
            """
            update ops.deletion set rows_raw = %s, rows_quarantined = %s, database_at = clock_timestamp()
            where batch_id = %s
            """,
            [raw, quarantined, batch_id],
        )
        failpoints.hit("retention.before_commit")
    return int(raw + quarantined)


def _rewrite_quarantine(connection: Connection) -> list[SampanError]:
    """Write the table of rejected rows again, without those that were deleted. Returns an error when they cannot leave it.

    The server keeps the bytes of a deleted row in the table's file, and so in every backup that is made of it, until
    another row needs the space. Partitions of raw are dropped with their files. While someone reads the table, or has a
    transaction that still sees the rows, the batches that were deleted are not called gone, so that the next run does it.
    """
    told: list[str] = []

    def note(said: psycopg.errors.Diagnostic) -> None:
        told.append(said.message_detail or "")

    why = "a transaction that began before they were deleted is open"
    connection.execute(f"set lock_timeout to '{REWRITE_WAITS}'")
    connection.add_notice_handler(note)
    try:
        connection.execute("vacuum (full, verbose) quarantine.record")
    except psycopg.errors.LockNotAvailable:
        why = _users(connection, "namespace.nspname = 'quarantine' and held.granted")
    else:
        # "2 dead row versions cannot be removed yet."
        if not any(re.match("[1-9]", detail) for detail in told):
            return []
    finally:
        connection.remove_notice_handler(note)
        connection.execute("reset lock_timeout")
    message = f"bytes of deleted rows are still in the file of quarantine.record: {why}"
    raise_alert(connection, "retention", None, message)
    return [TransientFailure(message)]


def _drop_from_raw(connection: Connection, feed: str, batch_id: int) -> int:
    """Drop the partition of a batch, or delete its rows if the partition has other batches. Returns how many rows."""
    found = next(((name, batches) for name, batches in partitions(connection, feed) if batch_id in batches), None)
    if found is None:
        return 0
    partition, batches = sql.Identifier("raw", found[0]), found[1]
    rows = scalar(connection, sql.SQL("select count(*) from {} where _batch_id = %s").format(partition), [batch_id])
    others = scalar(
        connection,
        "select count(*) from ops.batch where batch_id = any(%s) and batch_id <> %s and deleted_at is null",
        [batches, batch_id],
    )
    if others:
        connection.execute(sql.SQL("delete from {} where _batch_id = %s").format(partition), [batch_id])
    else:
        connection.execute(sql.SQL("drop table {}").format(partition))
    return int(rows)


def _delete_derived(connection: Connection, batch_id: int) -> int:
    with build.lock() as builder, builder.transaction():
        rows = sum(engine.delete(builder, batch_id) for engine in all_engines())
    connection.execute(
        "update ops.deletion set rows_derived = coalesce(rows_derived, 0) + %s where batch_id = %s", [rows, batch_id]
    )
    return rows


def _tables_with(connection: Connection, feed: str, batch_id: int) -> list[str]:
    """Tables that still have a row of the batch."""
    with connect("builder") as builder:
        found = [table for engine in all_engines() for table in engine.batches(builder, batch_id)]
    for schema, column in (("raw", "_batch_id"), ("quarantine", "batch_id")):
        query = sql.SQL("select exists (select from {} where {} = %s)").format(
            sql.Identifier(schema, feed), sql.Identifier(column)
        )
        if scalar(connection, query, [batch_id]):
            found.append(f"{schema}.{feed}")
    intake = f"{feed}__b{batch_id}"
    for schema in ("intake", "raw"):
        if scalar(connection, "select to_regclass(format('%%I.%%I', %s::text, %s::text))", [schema, intake]):
            found.append(f"{schema}.{intake}")
    return found


# --- releases -------------------------------------------------------------------------------------------------------


def _kept_since(on: date) -> datetime:
    """Releases from before this time are past their retention on a day: midnight in Hong Kong less the days of retention."""
    return datetime(on.year, on.month, on.day, tzinfo=HONG_KONG) - timedelta(days=settings().release_days)


def _delete_look_backs(on: date) -> tuple[int, list[SampanError]]:
    """Drop marts as known on earlier dates that were made, or begun and abandoned, before the retention of releases.

    Returns how many, and the errors for those that are in use or being built.
    """
    dropped, failed = 0, []
    for item in as_known.list_snapshots():
        if (item["made_at"] or item["begun_at"]) < _kept_since(on):
            try:
                as_known.drop(item["schema"])
                dropped += 1
            except SampanError as error:
                log.warning("%s was not dropped: %s", item["schema"], error)
                failed.append(error)
    return dropped, failed


def _old_releases(connection: Connection, on: date) -> set[int]:
    """Numbers of the releases past their retention, whether they are there or not. The live one stays, however old."""
    query = "select release_no from ops.release where released_at < %s and release_no is distinct from %s"
    old = connection.execute(query, [_kept_since(on), release.live_release(connection)]).fetchall()
    return {number for (number,) in old}


def _clear_local_pages(connection: Connection, on: date) -> set[int]:
    """Delete the pages of releases past their retention from the state folder, where the desk shows them. Returns which."""
    folder = settings().reports
    found = {number for number in _old_releases(connection, on) if (folder / f"release_{number}").is_dir()}
    for number in sorted(found):
        shutil.rmtree(folder / f"release_{number}")
        connection.execute(
            """
            insert into ops.deletion (kind, source_uri, reason, database_at, verified_at, looked_at)
            values ('pages', %s, %s, clock_timestamp(), clock_timestamp(), 'the state folder')
            """,
            [f"state:reports/release_{number}/", PAGES_REASON.format(settings().release_days)],
        )
    return found


def _clear_pages(connection: Connection, on: date) -> set[int]:
    """Delete the pages of releases past their retention from the store, and verify it. Returns which releases.

    Where the store denies the loader the rights for it, an alert says so, and everything else goes on.
    """
    try:
        return _delete_pages(connection, on)
    except object_store.ObjectRefused as error:
        if error.code == "NoSuchBucket":
            return set()
        message = (
            f"pages of releases past their retention stay in bucket {settings().report_bucket}: {error}. Give the loader's"
            " user s3:ListBucket, s3:ListBucketVersions, s3:DeleteObject and s3:DeleteObjectVersion there, as `sampan"
            " contracts policy` prints them"
        )
        raise_alert(connection, "retention", None, message)
        log.warning("%s", message)
        return set()


def _delete_pages(connection: Connection, on: date) -> set[int]:
    bucket, s3, store = settings().report_bucket, settings().s3(), object_store.seaweedfs()
    with s3_errors():
        listing = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="release_", Delimiter="/")
        found = {item["Prefix"] for page in listing for item in page.get("CommonPrefixes", ())}
    old = _old_releases(connection, on)
    folders = [folder for number in sorted(old) if (folder := f"release_{number}/") in found]
    for folder in folders:
        address, versions = f"s3://{bucket}/{folder}", _versions_under(bucket, folder)
        # SeaweedFS lists a folder for a while after its last object.
        if not versions:
            continue
        connection.execute(
            """
            insert into ops.deletion (kind, source_uri, reason, database_at)
            values ('pages', %s, %s, clock_timestamp())
            on conflict (source_uri) where verified_at is null do nothing
            """,
            [address, PAGES_REASON.format(settings().release_days)],
        )
        if store is not None:
            for version in versions:
                version["pieces"] = store.pieces(bucket, version["key"])
        _record_objects(connection, "source_uri", address, versions)
        _delete_objects(versions)
    looked_at = _forget(connection, "pages")
    # Also what a run began that died.
    begun = connection.execute(
        "select source_uri from ops.deletion where kind = 'pages' and verified_at is null"
    ).fetchall()
    for (address,) in begun:
        if _versions_under(*parse_s3_uri(address)):
            raise TransientFailure(f"{address} was deleted but is still found; run it again")
        connection.execute(
            """
            update ops.deletion set verified_at = clock_timestamp(), looked_at = %s
            where source_uri = %s and verified_at is null
            """,
            [looked_at, address],
        )
    return {int(address.removesuffix("/").rpartition("_")[2]) for (address,) in begun}


def _begin_releases(connection: Connection, on: date) -> None:
    live = release.live_release(connection)
    connection.execute(
        """
        insert into ops.deletion (kind, release_no, reason, rows_derived)
        select
            'release',
            release_no,
            format('kept %%s days', %(days)s::int),
            (select sum(value::bigint) from jsonb_each_text(rows))
        from ops.release
        where dropped_at is null and release_no is distinct from %(live)s and released_at < %(before)s
        on conflict do nothing
        """,
        {"days": settings().release_days, "live": live, "before": _kept_since(on)},
    )
    query = "select from ops.release where release_no = %s and released_at < %s"
    if connection.execute(query, [live, _kept_since(on)]).fetchone() is not None:
        message = (
            f"release {live} is past its retention of {settings().release_days} days and readers see it, since none was made"
            " after it: run `sampan refresh --force`"
        )
        raise_alert(connection, "retention", None, message)
        log.warning("%s", message)


def _delete_release(connection: Connection, release_no: int) -> int:
    """Drop a release. Returns 1, or 0 when it was made live again. Raises PermanentFailure when it is in use.

    The next run tries again.
    """
    with build.lock() as builder:
        if release.live_release(builder) == release_no:
            return 0
        release.drop_release(builder, release_no)
        schemas = list(release.schemas_of(release_no))
        if scalar(builder, "select exists (select from pg_namespace where nspname = any(%s))", [schemas]):
            users = _users(builder, "namespace.nspname = any(%s)", schemas)
            message = f"release {release_no} is past its retention and is still there: {users}"
            raise PermanentFailure(Problem(Code.RETENTION_IN_USE, message))
    gone = connection.execute(
        """
        update ops.deletion set database_at = clock_timestamp(), verified_at = clock_timestamp()
        where release_no = %s and not exists (select from pg_namespace where nspname = any(%s))
        """,
        [release_no, schemas],
    )
    return gone.rowcount


def _users(connection: Connection, which: LiteralString, *values: list[str]) -> str:
    """Who reads some tables, by the sessions that hold locks on them."""
    rows = connection.execute(
        f"""
        select distinct activity.pid, activity.usename
        from pg_locks as held
        join pg_class as class on class.oid = held.relation
        join pg_namespace as namespace on namespace.oid = class.relnamespace
        join pg_stat_activity as activity using (pid)
        where {which} and activity.datname = current_database()
        order by 1
        """,
        values or None,
    ).fetchall()
    return ", ".join(f"session {pid} of {role} reads it" for pid, role in rows) or "views of others depend on it"


def proofs(limit: int = 50) -> list[tuple[Any, ...]]:
    """The newest deletions: kind, what was deleted, reason, SHA-256, number of objects, number of rows, verified at."""
    with connect() as connection:
        found = connection.execute(
            """
            select
                feed,
                source_uri,
                kind,
                coalesce(feed || ' batch ' || batch_id, 'release ' || release_no, source_uri, feed),
                reason,
                content_sha256,
                jsonb_array_length(objects),
                coalesce(rows_raw, 0) + coalesce(rows_quarantined, 0) + coalesce(rows_derived, 0),
                verified_at
            from ops.deletion
            order by deletion_id desc
            limit %s
            """,
            [limit],
        ).fetchall()
    # Until its absence is verified, an address is as the partner wrote it.
    return [(kind, _shown_address(feed, uri) if of == uri else of, *rest) for feed, uri, kind, of, *rest in found]


def _shown_address(feed: str | None, uri: str) -> str:
    return shown_uri(get_contract(feed), uri) if feed is not None and feed in all_contracts() else shown(uri)
