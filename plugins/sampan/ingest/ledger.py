"""The ledger of batches: the state of each batch, who works on it, and why it is held.

Every claim raises a batch's fencing token. Every write names the token of its claim and is refused when a later claim has
raised it, so a worker that was presumed dead cannot undo the work of its successor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from structlog.contextvars import bound_contextvars

from sampan import feed_hooks
from sampan.alerts import raise_alert
from sampan.consent import Rejected
from sampan.contracts.model import Contract
from sampan.contracts.registry import get_contract
from sampan.database import Connection, connect, hide_values, is_about_content, is_transient
from sampan.errors import Code, PermanentFailure, Problem, SampanError, SettingsFailure, TransientFailure
from sampan.object_store import ObjectRefused, verify
from sampan.reading.reader import Reader, open_delivery

log = logging.getLogger(__name__)
COLUMNS = (
    "batch_id, feed, business_date, content_sha256, origin, source_uri, landing_uri, bytes, received_at, state, token, "
    "rows_in, rows_quarantined, rows_duplicate, row_rules_at, proven_rules_sha256"
)
Work = Callable[[Connection, Contract, "Batch"], object]


@dataclass(frozen=True)
class Batch:
    """One row of the ledger, as it was when it was read."""

    batch_id: int
    feed: str
    business_date: date
    content_sha256: str
    origin: str
    source_uri: str
    landing_uri: str
    bytes: int
    received_at: datetime
    state: str
    token: int
    rows_in: int | None
    rows_quarantined: int | None
    rows_duplicate: int | None
    row_rules_at: datetime | None
    proven_rules_sha256: str | None

    def reader(self, contract: Contract, *, from_start: bool) -> Reader:
        """A reader of its delivery, in landing; the layout is that of the start or of the whole."""
        is_replay = self.origin == "replay"
        return open_delivery(
            contract, self.landing_uri, self.business_date, self.file, replay=is_replay, from_start=from_start
        )

    @property
    def intake(self) -> sql.Composed:
        """Intake table of this batch, which becomes its partition of raw."""
        return sql.SQL("intake.{}").format(sql.Identifier(self.table))

    @property
    def rejects(self) -> sql.Composed:
        """Intake table of the records that cannot be cast to their types."""
        return sql.SQL("intake.{}").format(sql.Identifier(f"{self.table}__rejects"))

    @property
    def file(self) -> str:
        """File name that the partner gave it."""
        return self.source_uri.rsplit("/", 1)[-1]

    @property
    def table(self) -> str:
        """Name of its table, first in the schema intake, then in raw."""
        return f"{self.feed}__b{self.batch_id}"


class StaleClaim(TransientFailure):
    """Another worker has claimed the batch since: nothing was written, and that worker continues."""


def pending(
    connection: Connection, feed: str, state: str, business_date: date | None, batch_id: int | None = None
) -> list[Batch]:
    """Batches of a feed in a state, by business date and then by time of receipt, without those that retention deleted.

    Those that a person rejected are left out, unless `batch_id` names one.
    """
    with connection.cursor(row_factory=class_row(Batch)) as cursor:
        return cursor.execute(
            f"""
            select {COLUMNS} from ops.batch
            where
                feed = %s and state = %s and deleted_at is null and (%s::date is null or business_date = %s)
                and case when %s::bigint is null then rejected_at is null else batch_id = %s end
            order by business_date, received_at, batch_id
            """,
            [feed, state, business_date, business_date, batch_id, batch_id],
        ).fetchall()


def claim(connection: Connection, batch: Batch) -> Batch | None:
    """Claim a batch by raising its token. None when its state has changed since it was read, or it was deleted.

    A worker that writes the batch is waited for as `transaction` does: it may be frozen.
    """
    with transaction(connection), connection.cursor(row_factory=class_row(Batch)) as cursor:
        return cursor.execute(
            f"""
            update ops.batch set token = token + 1
            where batch_id = %s and state = %s and deleted_at is null
            returning {COLUMNS}
            """,
            [batch.batch_id, batch.state],
        ).fetchone()


def write(connection: Connection, batch: Batch, **values: Any) -> None:
    """Update the ledger row of a claimed batch, in the caller's transaction. Raises StaleClaim when the claim was lost."""
    sets = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(key), sql.Placeholder(key)) for key in values)
    statement = sql.SQL(
        "update ops.batch set {} where batch_id = %(batch_id_)s and token = %(token_)s and state = %(state_)s"
    ).format(sets)
    marks = {"batch_id_": batch.batch_id, "token_": batch.token, "state_": batch.state}
    if connection.execute(statement, values | marks).rowcount != 1:
        raise StaleClaim(f"{batch.feed} batch {batch.batch_id} was claimed by another worker")


def hold(connection: Connection, batch: Batch, problem: Problem, rows: int | None = None) -> None:
    """Hold a batch: none of its rows is published until a person decides or the partner sends a new delivery."""
    values = {"rows_in": None, "rows_published": None, "rows_quarantined": None, "rows_duplicate": None}
    with connection.transaction():
        write(
            connection, batch, state="held", problem=Jsonb(problem.as_dict()), held_at=now(),
            rows_held=batch.rows_in if rows is None else rows, **values,
        )  # fmt: skip
        what = f"batch {batch.batch_id} of {batch.business_date} is held: {problem}, see {problem.page}"
        feed_hooks.on_rejected(connection, batch.feed, what, Rejected(batch.landing_uri, batch.batch_id))
    with bound_contextvars(rule=str(problem.rule)):
        log.warning("%s %s batch %s held: %s", batch.feed, batch.business_date, batch.batch_id, problem)


def process_pending(feed: str, state: str, business_date: date | None, work: Work) -> dict[str, int]:
    """Call `work` for every pending batch of a feed. Returns how many were done ("batches") and held ("held").

    A permanent failure holds its batch, and the next batch is processed. After an unexpected error, or when the object store
    does not give what was landed, the next batch is processed too, and the first such error is raised at the end.
    """
    done: dict[str, int] = {"batches": 0, "held": 0}
    unexpected: Exception | None = None
    contract = get_contract(feed)
    with connect() as connection:
        for batch in pending(connection, feed, state, business_date):
            claimed = claim(connection, batch)
            if claimed is None:
                continue
            with bound_contextvars(feed=feed, batch=batch.batch_id):
                try:
                    problem = _attempt(connection, contract, claimed, work)
                    if problem is not None:
                        hold(connection, claimed, problem)
                    done["held" if problem is not None or _is_held(connection, claimed) else "batches"] += 1
                except StaleClaim as error:
                    log.warning("%s", error)
                except ObjectRefused as error:
                    log.warning("%s batch %s: %s", feed, batch.batch_id, error)
                    refused = TransientFailure(f"{feed} batch {batch.batch_id}, {batch.file}: {error}")
                    unexpected = unexpected or refused
                except SampanError:
                    raise
                except Exception as error:
                    # A server that is away is so for the next batch too.
                    if isinstance(error, psycopg.Error) and (is_transient(error) or connection.broken):
                        raise
                    log.error("%s batch %s: %s", feed, batch.batch_id, type(error).__name__)
                    # Until the fault is corrected, what the batch says is as lost as that of a held one.
                    with connection.transaction():
                        what = f"batch {batch.batch_id} of {batch.business_date} could not be processed"
                        feed_hooks.on_rejected(connection, feed, what, Rejected(batch.landing_uri, batch.batch_id))
                    hide_values(error)
                    unexpected = unexpected or error
    if unexpected is not None:
        raise unexpected
    return done


def _attempt(connection: Connection, contract: Contract, batch: Batch, work: Work) -> Problem | None:
    """Do the work. Returns the problem of a permanent failure, and raises every other error."""
    try:
        work(connection, contract, batch)
    except SettingsFailure:
        raise
    except PermanentFailure as error:
        # What the store has lost or changed since it was landed is not the partner's fault.
        verify(batch.landing_uri)
        return error.problem
    except psycopg.Error as error:
        if is_about_content(error):
            # The server's own message quotes values, which may be personal data.
            message = f"the database rejected the content of the delivery: {type(error).__name__} ({error.sqlstate})"
            return Problem(Code.BATCH_UNPROCESSABLE, message, batch.file)
        # A worker that lost its claim may find the batch's tables gone; then the lost claim is the cause.
        if not is_transient(error) and not connection.broken and not _is_claimed(connection, batch):
            raise StaleClaim(f"{batch.feed} batch {batch.batch_id} was claimed by another worker") from None
        raise
    return None


def _is_claimed(connection: Connection, batch: Batch) -> bool:
    query = "select 1 from ops.batch where batch_id = %s and token = %s and state = %s"
    return connection.execute(query, [batch.batch_id, batch.token, batch.state]).fetchone() is not None


def _is_held(connection: Connection, batch: Batch) -> bool:
    row = connection.execute("select state from ops.batch where batch_id = %s", [batch.batch_id]).fetchone()
    return row is not None and row[0] == "held"


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """One transaction that waits at most 10 seconds for each lock. `connect` turns a lock timeout into a TransientFailure."""
    with connection.transaction():
        connection.execute("set local lock_timeout to '10s'")
        yield


def require_none_held(feed: str, since: datetime) -> None:
    """Raise a PermanentFailure if a delivery of a feed was held or refused since a time, after a log line for each.

    One that a later delivery has replaced since is not an open problem (ops.open_problem), and may not be one while a later
    delivery of its date is on its way: it is only logged.
    """
    with connect() as connection:
        found = _held_since(connection, feed, since)
    if found:
        raise PermanentFailure(Problem(Code.BATCH_HELD, f"{_named(feed, found)}; the lines above say why"))


def notify_owner(feed: str, since: datetime) -> None:
    """Alert the owner, and raise as `require_none_held` does, if a delivery of a feed was held or refused since a time."""
    contract = get_contract(feed)
    with connect() as connection:
        found = _held_since(connection, feed, since)
        if not found:
            return
        lines = [f"batch {number or '-'} of {day}: {problem}, see {problem.page}" for number, day, problem in found]
        message = f"{len(lines)} held or refused, for {contract.owner} <{contract.contact}>: " + "; ".join(lines)
        raise_alert(connection, "held", feed, message)
    told = f"{_named(feed, found)}; the lines above say why, and {contract.owner} <{contract.contact}> is to be told"
    raise PermanentFailure(Problem(Code.BATCH_HELD, told))


def _held_since(connection: Connection, feed: str, since: datetime) -> list[tuple[int | None, date | None, Problem]]:
    """Batch (None: refused), business date and problem of what was held or refused since a time. Logs each on a line."""
    held = connection.execute(
        """
        select
            held.batch_id,
            held.business_date,
            held.problem,
            held.batch_id in (select batch_id from ops.open_problem) and not exists (
                select from ops.batch as later
                where
                    later.feed = held.feed and later.business_date = held.business_date
                    and later.counts_from > held.counts_from and later.state in ('landed', 'loaded', 'gated')
            )
        from ops.batch as held
        where held.feed = %s and held.state = 'held' and held.held_at >= %s
        order by held.batch_id
        """,
        [feed, since],
    ).fetchall()
    refused = connection.execute(
        """
        select null, business_date, problem, true from ops.delivery
        where feed = %s and problem is not null and refused_at >= %s and problem ->> 'rule' <> 'delivery.marker'
        order by source_uri
        """,
        [feed, since],
    ).fetchall()
    found = []
    for number, day, stored, is_open in held + refused:
        problem = Problem(**stored)
        with bound_contextvars(feed=feed, batch=number, rule=str(problem.rule)):
            if is_open:
                found.append((number, day, problem))
                log.error("batch %s of %s: %s, see %s", number or "-", day, problem, problem.page)
            else:
                log.info("batch %s of %s was held, and a later delivery replaces it: %s", number, day, problem)
    return found


def _named(feed: str, found: list[tuple[int | None, date | None, Problem]]) -> str:
    names = ", ".join(
        f"batch {number}" if number else (problem.file or "a file").rsplit("/", 1)[-1] for number, _, problem in found
    )
    return f"{len(found)} of {feed} held or refused: {names}"


def now() -> datetime:
    """The current time, with its offset."""
    return datetime.now().astimezone()
