"""land: what waits in a drop prefix into the landing bucket, unchanged and addressed by its content, and into the ledger."""

from __future__ import annotations

import hashlib
import logging
from datetime import date, datetime, timedelta

import psycopg
from psycopg.types.json import Jsonb

from sampan import failpoints
from sampan.alerts import raise_alert
from sampan.calendar import today
from sampan.contracts.model import Contract
from sampan.contracts.registry import get_contract
from sampan.database import connect
from sampan.errors import Code, PermanentFailure, Problem
from sampan.object_store import parse_s3_uri, put_if_absent, s3_errors
from sampan.settings import settings

log = logging.getLogger(__name__)
PART = 8 << 20


def run(feed: str, business_date: date | None = None) -> dict[str, int]:
    """Land every delivery that waits, or those of one date. Returns how many were landed, repeated and refused."""
    contract, done = get_contract(feed), {"landed": 0, "repeated": 0, "refused": 0}
    with connect() as connection:
        for uri, etag, day, received in _waiting(connection, feed, business_date):
            try:
                _check_date(contract, uri, day)
                landed = _land(connection, contract, uri, etag, day, received)
                done["landed" if landed else "repeated"] += 1
            except PermanentFailure as error:
                connection.execute(
                    "update ops.delivery set problem = %s, refused_at = clock_timestamp()"
                    " where source_uri = %s and etag = %s",
                    [Jsonb(error.problem.as_dict()), uri, etag],
                )
                log.warning("%s refused: %s", uri, error)
                done["refused"] += 1
    return done


def _waiting(
    connection: psycopg.Connection, feed: str, business_date: date | None
) -> list[tuple[str, str, date | None, datetime]]:
    return connection.execute(
        "select source_uri, etag, business_date, received_at from ops.delivery"
        " where feed = %s and batch_id is null and problem is null and (%s::date is null or business_date = %s)"
        " order by business_date, received_at, source_uri",
        [feed, business_date, business_date],
    ).fetchall()


def _check_date(contract: Contract, uri: str, day: date | None) -> None:
    if day is None:
        wanted = f"s3://{settings().drop_bucket}/{contract.drop_prefix}<YYYY-MM-DD>/<name>"
        raise PermanentFailure(Problem(Code.DELIVERY_NO_BUSINESS_DATE, f"a delivery lies at {wanted}", uri))
    if day > today():
        raise PermanentFailure(Problem(Code.DELIVERY_FUTURE_DATE, f"business date {day} is still to come", uri))
    if day < today() - timedelta(days=contract.retention_days):
        message = f"business date {day} is past the {contract.retention_days} days that the feed is kept"
        raise PermanentFailure(Problem(Code.DELIVERY_PAST_RETENTION, message, uri))


def _land(
    connection: psycopg.Connection, contract: Contract, uri: str, etag: str, day: date, received: datetime
) -> bool:
    """Copy one delivery and enter it in the ledger. Returns False when its content was known for that date."""
    s3, (bucket, key) = settings().s3(), parse_s3_uri(uri)
    with s3_errors():
        try:
            body = s3.get_object(Bucket=bucket, Key=key)
        except s3.exceptions.NoSuchKey:
            raise PermanentFailure(
                Problem(Code.DELIVERY_GONE, "the partner took it back before it was landed", uri)
            ) from None
        digest, size = hashlib.sha256(), 0
        for block in body["Body"].iter_chunks(PART):
            digest.update(block)
            size += len(block)
    sha = digest.hexdigest()
    deleted = connection.execute(
        "select 1 from ops.batch where feed = %s and business_date = %s and content_sha256 = %s and deleted_at is not null",
        [contract.feed, day, sha],
    ).fetchone()
    if deleted is not None:
        message = f"this content of {day} was deleted at the end of its retention and is not taken in again"
        raise PermanentFailure(Problem(Code.DELIVERY_PAST_RETENTION, message, uri))
    target = f"{contract.feed}/{day}/{sha}.{contract.source.extension}"
    failpoints.hit("land.before_put")
    put_if_absent(
        s3, target, lambda: s3.get_object(Bucket=bucket, Key=key, IfMatch=body["ETag"])["Body"], size, sha, uri
    )
    failpoints.hit("land.after_put")
    with connection.transaction():
        new = enter(connection, contract, day, sha, uri, f"s3://{settings().landing_bucket}/{target}", size, received)
        connection.execute(
            "update ops.delivery d set batch_id = b.batch_id from ops.batch b"
            " where d.source_uri = %s and d.etag = %s"
            " and b.feed = %s and b.business_date = %s and b.content_sha256 = %s",
            [uri, etag, contract.feed, day, sha],
        )
        if not new:
            _note_return(connection, contract, uri, day, sha, received)
    log.info("%s %s %s", uri, "landed as" if new else "is known as", sha)
    return new


def _note_return(
    connection: psycopg.Connection, contract: Contract, uri: str, day: date, sha: str, received: datetime
) -> None:
    """Leave word of a content that comes back after another took its place: one content is one batch, as old as ever."""
    between = connection.execute(
        "select known.batch_id, max(other.batch_id) from ops.batch known join ops.batch other using (feed, business_date)"
        " where feed = %s and business_date = %s and known.content_sha256 = %s and other.origin = 'delivery'"
        " and (other.received_at, other.batch_id) > (known.received_at, known.batch_id) and other.received_at <= %s"
        " group by known.batch_id",
        [contract.feed, day, sha, received],
    ).fetchone()
    if between is None:
        return
    known, other = between
    message = (
        f"for {contract.owner} <{contract.contact}>: {uri} holds what batch {known} of {day} held, and batch {other} came in"
        " between, which still counts; if the older content is to count again, it has to come in a file of other bytes"
    )
    raise_alert(connection, "returned", contract.feed, message)
    log.warning("%s", message)


def enter(
    connection: psycopg.Connection, contract: Contract, day: date, sha: str, uri: str, landing: str, size: int,
    received: datetime, origin: str = "delivery", replays: int | None = None,
) -> bool:  # fmt: skip
    """A ledger row for a landed delivery; False when the same content of that date has one."""
    cursor = connection.execute(
        "insert into ops.batch (feed, business_date, content_sha256, origin, replays, source_uri, landing_uri,"
        " bytes, received_at, contract_version) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
        [contract.feed, day, sha, origin, replays, uri, landing, size, received, contract.version],
    )
    return cursor.rowcount == 1
