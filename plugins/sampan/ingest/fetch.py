"""Find new deliveries of a feed.

A drop prefix is listed. An API is requested as its contract says, and the response becomes a file in the feed's drop
prefix, so that every delivery is processed the same way from there on.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import date, datetime
from typing import Any, cast
from urllib.parse import quote

import psycopg
from psycopg.types.json import Jsonb

from sampan import feed_hooks
from sampan.consent import Rejected
from sampan.contracts.model import Contract
from sampan.contracts.registry import get_contract
from sampan.database import Connection, connect
from sampan.errors import Code, PermanentFailure, Problem, SampanError
from sampan.ingest import api, freshness
from sampan.object_store import list_objects, s3_errors
from sampan.reading.shown import hidden
from sampan.settings import settings

log = logging.getLogger(__name__)
# Metadata of an object of a simulated partner. It counts only while the clock is set, which a partner cannot do.
SENT_AT = "sent-at"


def run(feed: str, business_date: date | None = None, only_owed: bool = False) -> dict[str, int]:
    """Enter every new delivery in the ledger. Returns how many were seen for the first time.

    An API is requested as of `business_date` or, without one, as of today (or the day of the clock, if that is set). With
    `only_owed` a weekly or monthly API is not requested again once it has delivered for the current week or month.
    """
    contract = get_contract(feed)
    if contract.source.kind == "api" and not (only_owed and business_date is None and _has_delivered(contract)):
        _download(contract, business_date or freshness.now().date())
    seen = 0
    with connect() as connection:
        simulated = freshness.clock(connection) is not None
        for item in list_objects(contract.drop_prefix):
            if item["Key"].endswith("/"):
                continue
            if simulated:
                item["LastModified"] = _simulated_receipt(connection, item)
            try:
                seen += _note(connection, contract, item)
            except (psycopg.DataError, UnicodeEncodeError):
                with connection.transaction():
                    seen += _refuse(connection, contract, item)
    freshness.record_poll(feed)
    return {"seen": seen}


def _simulated_receipt(connection: Connection, item: dict[str, Any]) -> datetime:
    """When an object came while the clock is set: as a simulated partner wrote on it, or else by the object store."""
    stored: datetime = item["LastModified"]
    known = """
        select received_at from ops.delivery
        where source_uri = %s and etag = %s and problem is null and seen_at > %s
    """
    uri = f"s3://{settings().drop_bucket}/{item['Key']}"
    if row := connection.execute(known, [uri, item["ETag"], stored]).fetchone():
        return cast(datetime, row[0])
    with s3_errors():
        head = settings().s3().head_object(Bucket=settings().drop_bucket, Key=item["Key"])
    sent: str | None = head["Metadata"].get(SENT_AT)
    return datetime.fromisoformat(sent) if sent else stored


def _note(connection: Connection, contract: Contract, item: dict[str, Any]) -> int:
    """Enter one object of a listing. Returns 1 when it is new, 0 when it is known."""
    return connection.execute(
        # What was refused for a temporary reason is seen again when the reason is gone.
        """
        insert into ops.delivery (source_uri, etag, feed, business_date, received_at, bytes)
        values (%(uri)s, %(etag)s, %(feed)s, %(day)s, %(received_at)s, %(bytes)s)
        on conflict (source_uri, etag) do update set
            problem = null,
            batch_id = null,
            received_at = excluded.received_at,
            seen_at = clock_timestamp()
        where delivery.problem ->> 'rule' = any(%(unread)s)
            or delivery.problem ->> 'rule' = %(future)s and delivery.business_date <= %(today)s
            -- A rollback under the same name: something else of this date came in between.
            or delivery.batch_id is not null and delivery.deleted_at is null and exists (
                select from ops.delivery as other
                where other.feed = delivery.feed and other.business_date = delivery.business_date
                    and other.etag <> delivery.etag
                    and other.received_at > delivery.received_at and other.received_at < excluded.received_at
            )
        """,
        {
            "uri": f"s3://{settings().drop_bucket}/{item['Key']}",
            "etag": item["ETag"],
            "feed": contract.feed,
            "day": _business_date(contract, item["Key"]),
            "received_at": item["LastModified"],
            "bytes": item["Size"],
            "unread": [str(Code.DELIVERY_GONE), str(Code.DELIVERY_DENIED)],
            "future": str(Code.DELIVERY_FUTURE_DATE),
            "today": freshness.today(connection),
        },
    ).rowcount


def _refuse(connection: Connection, contract: Contract, item: dict[str, Any]) -> int:
    """Enter an object whose key a text of the database cannot hold as refused, with the key percent-encoded.

    Returns 1 when it is new, 0 when it is known.
    """
    uri = f"s3://{settings().drop_bucket}/{quote(item['Key'], errors='surrogatepass')}"
    message = (
        "the key has a character that cannot be stored, such as NUL; remove the object and deliver it under another"
    )
    # Personal numbers are found before the key is encoded, which hides them.
    name = quote(hidden(item["Key"], expects_hkid=True), safe="/[]", errors="surrogatepass")
    problem = Problem(Code.DELIVERY_KEY, message, f"s3://{settings().drop_bucket}/{name}")
    new = connection.execute(
        """
        insert into ops.delivery (source_uri, etag, feed, business_date, received_at, bytes, problem, refused_at)
        values (%s, %s, %s, %s, %s, %s, %s, clock_timestamp())
        on conflict (source_uri, etag) do nothing
        """,
        [
            uri,
            item["ETag"],
            contract.feed,
            _business_date(contract, item["Key"]),
            item["LastModified"],
            item["Size"],
            Jsonb(problem.as_dict()),
        ],
    ).rowcount
    if new:
        what = f"a delivery is refused: {problem}, see {problem.page}"
        feed_hooks.on_rejected(connection, contract.feed, what, Rejected(None, etag=item["ETag"]))
        log.warning("refused: %s", problem)
    return new


def _has_delivered(contract: Contract) -> bool:
    """Whether a weekly or monthly API has delivered for the newest slot that is due."""
    if contract.calendar.days not in ("weekly", "monthly"):
        return False
    now = freshness.now()
    due = [row["state"] for row in freshness.days(contract.feed) if row["due_at"] <= now]
    return due[-1:] == ["arrived"]


def _business_date(contract: Contract, key: str) -> date | None:
    """The business date in an object's key, or None if it has none."""
    folder = key.removeprefix(contract.drop_prefix).split("/")[0]
    try:
        return date.fromisoformat(folder) if len(folder) == 10 else None
    except ValueError:
        return None


def _download(contract: Contract, day: date) -> None:
    """Request everything as of a day, and put it into the drop prefix under a name made from its content."""
    try:
        body = api.response_body(contract, day)
    except SampanError as error:
        # Recorded so that the late report can tell "polled, no data" from "not polled".
        problem = error.problem if isinstance(error, PermanentFailure) else Problem(Code.API_AWAY, str(error))
        freshness.record_poll(contract.feed, problem)
        raise
    name = f"{contract.feed}_{hashlib.sha256(body).hexdigest()[:16]}.{contract.source.extension}"
    with connect() as connection:
        at = freshness.clock(connection)
    with s3_errors():
        settings().s3().put_object(
            Bucket=settings().drop_bucket,
            Key=f"{contract.drop_prefix}{day}/{name}",
            Body=body,
            Metadata={SENT_AT: at.isoformat()} if at else {},
        )
