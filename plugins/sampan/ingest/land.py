"""Copy new deliveries to the landing bucket, unchanged and under the hash of their content, and enter them in the ledger."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import IO, Any

from psycopg.types.json import Jsonb

from sampan import failpoints, feed_hooks
from sampan.alerts import raise_alert
from sampan.consent import Rejected
from sampan.contracts.model import Contract
from sampan.contracts.registry import get_contract
from sampan.database import Connection, connect, one
from sampan.errors import Code, PermanentFailure, Problem
from sampan.ingest import freshness, ledger
from sampan.object_store import ObjectRefused, parse_s3_uri, put_if_absent, s3_errors
from sampan.reading.shown import shown_uri
from sampan.settings import settings

log = logging.getLogger(__name__)
PART = 8 << 20


def run(feed: str, business_date: date | None = None) -> dict[str, int]:
    """Land every new delivery, or those of one date. Returns how many were landed, were repeats, and were refused."""
    contract, done = get_contract(feed), {"landed": 0, "repeated": 0, "refused": 0}
    with connect() as connection:
        today = freshness.today(connection)
        for uri, etag, day, received in _new_deliveries(connection, feed, business_date):
            name = shown_uri(contract, uri)
            try:
                checked = _checked_date(contract, name, day, today)
                landed = _land(connection, contract, uri, name, etag, checked, received)
                done["landed" if landed else "repeated"] += 1
            except PermanentFailure as error:
                unread = error.problem.rule in (Code.DELIVERY_GONE, Code.DELIVERY_DENIED)
                with connection.transaction():
                    connection.execute(
                        """
                        update ops.delivery set problem = %s, refused_at = clock_timestamp()
                        where source_uri = %s and etag = %s
                        """,
                        [Jsonb(error.problem.as_dict()), uri, etag],
                    )
                    what = f"a delivery is refused: {error.problem}, see {error.problem.page}"
                    feed_hooks.on_rejected(connection, feed, what, Rejected(None if unread else uri, etag=etag))
                log.warning("%s refused: %s", name, error)
                done["refused"] += 1
    return done


def _new_deliveries(
    connection: Connection, feed: str, business_date: date | None
) -> list[tuple[str, str, date | None, datetime]]:
    return connection.execute(
        """
        select source_uri, etag, business_date, received_at from ops.delivery
        where feed = %s and batch_id is null and problem is null and (%s::date is null or business_date = %s)
        order by business_date, received_at, source_uri
        """,
        [feed, business_date, business_date],
    ).fetchall()


def _checked_date(contract: Contract, name: str, day: date | None, today: date) -> date:
    """The business date. Raises PermanentFailure when it is missing, in the future or past the feed's retention."""
    drop = f"s3://{settings().drop_bucket}/"
    if not parse_s3_uri(name)[1].startswith(contract.drop_prefix):
        message = f"it is in the folder of no feed; deliver to {drop}{contract.partner}/<feed>/<YYYY-MM-DD>/<name>"
        raise PermanentFailure(Problem(Code.DELIVERY_NO_FEED, message, name))
    if day is None:
        wanted = f"{drop}{contract.drop_prefix}<YYYY-MM-DD>/<name>"
        raise PermanentFailure(
            Problem(Code.DELIVERY_NO_BUSINESS_DATE, f"the key has no business date; deliver to {wanted}", name)
        )
    if day > today:
        raise PermanentFailure(Problem(Code.DELIVERY_FUTURE_DATE, f"business date {day} is in the future", name))
    if day < today - timedelta(days=contract.retention_days):
        message = f"business date {day} is older than the feed's retention of {contract.retention_days} days"
        raise PermanentFailure(Problem(Code.DELIVERY_PAST_RETENTION, message, name))
    return day


def _land(
    connection: Connection, contract: Contract, uri: str, name: str, etag: str, day: date, received: datetime
) -> bool:
    """Copy one delivery and enter it in the ledger. Returns False when that date already has a batch with this content.

    `uri` is only used to fetch the object; everything else gets `name`, which has no personal numbers.
    """
    s3, (bucket, key) = settings().s3(), parse_s3_uri(uri)
    try:
        with s3_errors():
            body = s3.get_object(Bucket=bucket, Key=key)
    except ObjectRefused as error:
        if error.code == "NoSuchKey":
            problem = Problem(Code.DELIVERY_GONE, "the partner removed the object before it was landed", name)
        else:
            problem = Problem(Code.DELIVERY_DENIED, f"it is listed, but cannot be read: {error}", name)
        raise PermanentFailure(problem) from None
    if body["ETag"].strip('"') != etag.strip('"'):
        received = _enter_overwritten(connection, contract, uri, etag, day, body)
        etag = body["ETag"]
    with s3_errors():
        digest, size, content = hashlib.sha256(), 0, b""
        for block in body["Body"].iter_chunks(PART):
            digest.update(block)
            # A small delivery is uploaded as it was read; a larger one is read again.
            content = block if not size else b""
            size += len(block)
    sha = digest.hexdigest()
    deleted = connection.execute(
        """
        select 1 from ops.batch
        where feed = %s and business_date = %s and content_sha256 = %s and deleted_at is not null
        """,
        [contract.feed, day, sha],
    ).fetchone()
    if deleted is not None:
        message = f"this content for {day} was deleted at the end of its retention and cannot be delivered again"
        raise PermanentFailure(Problem(Code.DELIVERY_PAST_RETENTION, message, name))
    target = f"{contract.feed}/{day}/{sha}.{contract.source.extension}"
    failpoints.hit("land.before_put")

    def again() -> IO[bytes]:
        stream: IO[bytes] = s3.get_object(Bucket=bucket, Key=key, IfMatch=body["ETag"])["Body"]
        return stream

    put_if_absent(s3, target, content if len(content) == size else again, size, sha, name)
    failpoints.hit("land.after_put")
    with ledger.transaction(connection):
        new = insert_batch(
            connection, contract, day, sha, name, f"s3://{settings().landing_bucket}/{target}", size, received
        )
        connection.execute(
            """
            update ops.delivery as d set batch_id = b.batch_id from ops.batch as b
            where d.source_uri = %s and d.etag = %s
                and b.feed = %s and b.business_date = %s and b.content_sha256 = %s
            """,
            [uri, etag, contract.feed, day, sha],
        )
        if not new:
            _take_back(connection, contract, name, day, sha, received)
    log.info("%s %s %s", name, "landed as" if new else "was already landed as", sha)
    return new


def _enter_overwritten(
    connection: Connection, contract: Contract, uri: str, etag: str, day: date, body: Mapping[str, Any]
) -> datetime:
    """Enter what the partner wrote under a name since fetch looked, instead of what no one has read. Returns its receipt.

    Under the entity tag of the other one it would be taken for it, should that come back. What no one has read is lost.
    """
    received = freshness.receipt(connection, body)
    with ledger.transaction(connection):
        connection.execute("delete from ops.delivery where source_uri = %s and etag = %s", [uri, etag])
        what = f"{shown_uri(contract, uri)} was overwritten before it was read; what it has now is taken in"
        feed_hooks.on_rejected(connection, contract.feed, what, Rejected(None, etag=etag))
        connection.execute(
            """
            insert into ops.delivery (source_uri, etag, feed, business_date, received_at, bytes)
            values (%s, %s, %s, %s, %s, %s)
            on conflict (source_uri, etag) do update set
                problem = null,
                batch_id = null,
                received_at = excluded.received_at,
                seen_at = clock_timestamp()
            """,
            [uri, body["ETag"], contract.feed, day, received, body["ContentLength"]],
        )
    return received


def _take_back(connection: Connection, contract: Contract, name: str, day: date, sha: str, received: datetime) -> None:
    """Let content that was delivered again after another of its date count as the newest; that is the partner's rollback.

    Its owner is told, also when a person has withdrawn it: then it stays withdrawn. What is withdrawn keeps its place
    among the others, so that undoing it brings back what the partner meant.
    """
    known, state, was_newest, other = one(
        connection,
        """
        select
            known.batch_id,
            known.state,
            count(other.batch_id) = 0,
            max(other.batch_id) filter (where other.state <> 'withdrawn')
        from ops.batch as known
        left join ops.batch as other
            on known.feed = other.feed and known.business_date = other.business_date and other.origin = 'delivery'
            and (other.counts_from, other.batch_id) > (known.counts_from, known.batch_id)
            and other.counts_from <= %s
        where known.feed = %s and known.business_date = %s and known.content_sha256 = %s
        group by known.batch_id
        """,
        [received, contract.feed, day, sha],
    )
    if not was_newest:
        moved = connection.execute(
            """
            with recursive chain as (
                select batch_id from ops.batch where batch_id = %s
                union
                select b.batch_id from ops.batch as b inner join chain on b.replays = chain.batch_id
            )
            update ops.batch set returned_at = %s where batch_id in (select batch_id from chain) returning batch_id, state
            """,
            [known, received],
        ).fetchall()
        feed_hooks.after_return(connection, contract.feed, [number for number, of in moved if of == "published"])
    if state == "withdrawn":
        what = (
            "which a person has withdrawn; it stays withdrawn. If it is right, run"
            f" `sampan withdraw {contract.feed} --batch {known} --undo`"
        )
    elif other is not None:
        what = f"which batch {other} had superseded; batch {known} counts as the newest again"
    else:
        return
    message = (
        f"for {contract.owner} <{contract.contact}>: {name} has the same content as batch {known} of {day}, {what}"
    )
    raise_alert(connection, "returned", contract.feed, message)
    log.warning("%s", message)


def insert_batch(
    connection: Connection, contract: Contract, day: date, sha: str, uri: str, landing: str, size: int,
    received: datetime, origin: str = "delivery", replays: int | None = None,
) -> bool:  # fmt: skip
    """Insert the ledger row of a landed delivery. Returns False when that date already has a batch with this content."""
    cursor = connection.execute(
        """
        insert into ops.batch (
            feed, business_date, content_sha256, origin, replays, source_uri, landing_uri, bytes, received_at,
            contract_version
        )
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        on conflict do nothing
        """,
        [contract.feed, day, sha, origin, replays, uri, landing, size, received, contract.version],
    )
    return cursor.rowcount == 1
