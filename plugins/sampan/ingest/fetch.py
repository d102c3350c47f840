"""Find new deliveries of a feed.

A drop prefix is listed. An API is requested as its contract says, and the response becomes a file in the feed's drop
prefix, so that every delivery is processed the same way from there on.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from operator import itemgetter
from typing import Any, cast
from urllib.parse import quote

import psycopg
from psycopg.types.json import Jsonb

from sampan import feed_hooks
from sampan.alerts import raise_alert
from sampan.consent import Rejected
from sampan.contracts.model import Contract
from sampan.contracts.registry import all_contracts, get_contract
from sampan.database import Connection, connect
from sampan.errors import Code, PermanentFailure, Problem, SampanError, TransientFailure
from sampan.ingest import api, freshness
from sampan.ingest.markers import CHECKSUM_BYTES, FOLDER, checksum_of, marker, sums
from sampan.object_store import ObjectRefused, list_beside, list_objects, s3_errors
from sampan.reading.shown import hidden, shown, shown_uri
from sampan.settings import settings

log = logging.getLogger(__name__)
# Seconds for which an API that asks not to be asked again is left alone, also by retries and other processes.
LONGEST_PAUSE = 3600.0
LONGEST_WAIT_FOR_FILE = timedelta(days=1)
# Objects of a listing that are entered in one transaction.
AT_ONCE = 1_000
# What a text of the database cannot hold.
NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


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
        today = freshness.today(connection)
        deliveries: list[dict[str, Any]] = []
        beside: list[tuple[dict[str, Any], str]] = []
        for item in chain(list_objects(contract.drop_prefix), _astray(contract)):
            path = item["Key"].removeprefix(contract.drop_prefix)
            kind = marker(path, item["Size"], contract.source.extension)
            if kind == FOLDER:
                continue
            if kind is not None and not NOT_STORABLE.search(path):
                beside.append((item, kind))
                continue
            if simulated:
                item["LastModified"] = _simulated_receipt(connection, item)
            deliveries.append(item)
        # In the order in which they came: content that came back is told by what came in between.
        deliveries.sort(key=itemgetter("LastModified"))
        for start in range(0, len(deliveries), AT_ONCE):
            seen += _note_all(connection, contract, deliveries[start : start + AT_ONCE], today)
        keys = {item["Key"] for item in deliveries}
        for item, kind in beside:
            try:
                _ignore(connection, contract, item, kind, keys)
            except ObjectRefused as error:
                log.warning("%s beside the deliveries of %s cannot be read: %s", kind, feed, error)
    freshness.record_poll(feed)
    return {"seen": seen}


def _astray(contract: Contract) -> Iterator[dict[str, Any]]:
    """Objects that the partner put beside the prefixes of its feeds, where no other fetch looks: land refuses them.

    One feed of the partner answers for them: the one that loses most with news that is lost.
    """
    feeds = [c for c in all_contracts().values() if c.partner == contract.partner and c.source.kind == "s3"]
    answers = min(feeds, key=lambda c: (c.feed not in feed_hooks.HOOKS, not c.alert_on_rejected, c.feed), default=None)
    if answers == contract:
        yield from list_beside(f"{contract.partner}/", {c.drop_prefix for c in all_contracts().values()})


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
    return freshness.receipt(connection, head)


def _note_all(connection: Connection, contract: Contract, items: list[dict[str, Any]], today: date) -> int:
    """Enter objects of a listing, those as refused whose keys cannot be stored. Returns how many of them are new."""
    if not items:
        return 0
    try:
        with connection.transaction():
            return _note(connection, contract, items, today)
    except (psycopg.DataError, UnicodeEncodeError):
        if len(items) > 1:
            return sum(_note_all(connection, contract, [item], today) for item in items)
    with connection.transaction():
        return _refuse(connection, contract, items[0])


def _note(connection: Connection, contract: Contract, items: list[dict[str, Any]], today: date) -> int:
    """Enter objects of a listing. Returns how many of them are new."""
    cursor = connection.cursor()
    cursor.executemany(
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
        [
            {
                "uri": f"s3://{settings().drop_bucket}/{item['Key']}",
                "etag": item["ETag"],
                "feed": contract.feed,
                "day": _business_date(contract, item["Key"]),
                "received_at": item["LastModified"],
                "bytes": item["Size"],
                "unread": [str(Code.DELIVERY_GONE), str(Code.DELIVERY_DENIED)],
                "future": str(Code.DELIVERY_FUTURE_DATE),
                "today": today,
            }
            for item in items
        ],
    )
    return cursor.rowcount


def _ignore(connection: Connection, contract: Contract, item: dict[str, Any], kind: str, keys: Collection[str]) -> None:
    """Enter an object that is not a delivery in the ledger, so that retention deletes it, and say so once.

    A checksum is compared with its file first, and waits for it a day: `keys` are those of the feed's deliveries.
    """
    key = item["Key"]
    uri = f"s3://{settings().drop_bucket}/{key}"
    name = shown_uri(contract, uri)
    known = "select from ops.delivery where source_uri = %s and etag = %s"
    if connection.execute(known, [uri, item["ETag"]]).fetchone() is not None:
        return
    problem = Problem(Code.DELIVERY_MARKER, f"it is {kind}, not a delivery: it is not read", name)
    with connection.transaction():
        is_new = datetime.now(UTC) - item["LastModified"] < LONGEST_WAIT_FOR_FILE
        if checksum_of(key) and not _compare(connection, contract, key, keys) and is_new:
            log.info("%s waits for the file that it is of", name)
            return
        connection.execute(
            """
            insert into ops.delivery (source_uri, etag, feed, business_date, received_at, bytes, problem)
            values (%s, %s, %s, %s, %s, %s, %s)
            on conflict do nothing
            """,
            [
                uri,
                item["ETag"],
                contract.feed,
                _business_date(contract, key),
                item["LastModified"],
                item["Size"],
                Jsonb(problem.as_dict()),
            ],
        )
        feed_hooks.on_ignored(connection, contract.feed, f"{name} is {kind}: ignored", Rejected(uri, etag=item["ETag"]))
    log.info("%s is %s, not a delivery: ignored", name, kind)


def _compare(connection: Connection, contract: Contract, key: str, keys: Collection[str]) -> bool:
    """Compare the files that a file of checksums names with it, and alert the owner of each that does not match.

    Returns False when it names files, and none of them is among `keys` yet.
    """
    folder, algorithm = key.rpartition("/")[0], checksum_of(key) or ""
    named = sums(key, b"".join(_pieces(key, CHECKSUM_BYTES)).decode(errors="replace"))
    present = {
        full: expected
        for name, expected in named.items()
        for full in (name, f"{name}.{contract.source.extension}")
        if f"{folder}/{full}" in keys
    }
    for name, expected in present.items():
        digest = hashlib.new(algorithm, usedforsecurity=False)
        for piece in _pieces(f"{folder}/{name}"):
            digest.update(piece)
        if digest.hexdigest() != expected:
            file, of = (shown(item.rsplit("/", 1)[-1], expects_hkid=True) for item in (name, key))
            message = (
                f"for {contract.owner} <{contract.contact}>: {file}: its content of {_business_date(contract, key)} does not"
                f" match the checksum in {of}: {algorithm} {digest.hexdigest()}, expected {expected}. It was changed or cut"
                " on its way, or one of the two is old: compare it with the partner's, and have it delivered again"
            )
            raise_alert(connection, "checksum", contract.feed, message)
            log.warning("%s", message)
    return bool(present) or not named


def _pieces(key: str, most: int | None = None) -> Iterator[bytes]:
    """Bytes of an object of the drop bucket, or the first of them."""
    with s3_errors():
        body = settings().s3().get_object(Bucket=settings().drop_bucket, Key=key)["Body"]
        yield from body.iter_chunks(1 << 20) if most is None else [body.read(most)]


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
    freshness.require_poll_allowed(contract.feed)
    try:
        body = api.response_body(contract, day)
    except SampanError as error:
        # Recorded so that the late report can tell "polled, no data" from "not polled".
        problem = error.problem if isinstance(error, PermanentFailure) else Problem(Code.API_AWAY, str(error))
        wait = min(error.retry_after, LONGEST_PAUSE) if isinstance(error, TransientFailure) else 0.0
        freshness.record_poll(contract.feed, problem, wait=wait)
        raise
    name = f"{contract.feed}_{hashlib.sha256(body).hexdigest()[:16]}.{contract.source.extension}"
    with connect() as connection:
        at = freshness.clock(connection)
    with s3_errors():
        settings().s3().put_object(
            Bucket=settings().drop_bucket,
            Key=f"{contract.drop_prefix}{day}/{name}",
            Body=body,
            Metadata={freshness.SENT_AT: at.isoformat()} if at else {},
        )
