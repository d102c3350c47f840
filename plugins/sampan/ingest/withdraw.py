"""Withdraw published batches: take them out of what counts. Their rows and their ledger row stay, so it can be undone.

The next build is as if they had never come. Replays of their quarantined rows go with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sampan import feed_hooks
from sampan.alerts import raise_alert
from sampan.contracts.registry import get_contract
from sampan.database import Connection, connect
from sampan.errors import Code, PermanentFailure, Problem, require_reason
from sampan.ingest import lake, ledger


@dataclass(frozen=True)
class Chosen:
    """Which batches of a feed: one by its number, or those of a business date, of a partner's file, or of both."""

    batch_id: int | None = None
    business_date: date | None = None
    file: str | None = None

    def __str__(self) -> str:
        parts = [("batch", self.batch_id), ("date", self.business_date), ("file", self.file)]
        return ", ".join(f"{name} {value}" for name, value in parts if value is not None)


def run(feed: str, chosen: Chosen, reason: str, by: str) -> dict[str, int]:
    """Withdraw published batches, and the replays of their rows, with a reason and the person's name.

    Returns how many batches and rows. Raises PermanentFailure when no published batch is chosen.
    """
    contract = get_contract(feed)
    require_reason(reason, Code.WITHDRAW_REASON)
    with connect() as connection, ledger.transaction(connection):
        found = _with_replays(connection, _choose(connection, feed, chosen, "published"))
        batches = [batch_id for batch_id, _ in found]
        rows = connection.execute(
            """
            update ops.batch set state = 'withdrawn', token = token + 1 where batch_id = any(%s)
            returning rows_published
            """,
            [batches],
        ).fetchall()
        # In the order of their numbers: a delivery before the replays of its rows.
        for batch_id, delivery in found:
            connection.execute(
                """
                insert into ops.withdrawal (batch_id, because_of, reason, withdrawn_by)
                values (
                    %(batch)s,
                    (
                        select withdrawal_id from ops.withdrawal
                        where batch_id = %(delivery)s and batch_id <> %(batch)s and undone_at is null
                    ),
                    %(reason)s,
                    %(by)s
                )
                """,
                {"batch": batch_id, "delivery": delivery, "reason": reason, "by": by},
            )
        _take_from_quarantine(connection, feed, batches)
        consequences = feed_hooks.after_withdraw(connection, feed, batches)
        numbers = ", ".join(map(str, batches))
        message = (
            f"for {contract.owner} <{contract.contact}>: {by} withdrew batches {numbers}: {reason}. The next build is as if"
            f" they had never come; if they are right, run `sampan withdraw {feed} --batch <number> --undo`. {consequences}"
        )
        raise_alert(connection, "withdrawn", feed, message.strip())
    feed_hooks.clean_up(feed)
    lake.follow(feed)
    return {"batches": len(batches), "rows": sum(count for (count,) in rows)}


def undo(feed: str, chosen: Chosen, reason: str, by: str) -> dict[str, int]:
    """Let withdrawn batches count again, with the replays that went with them. Returns how many batches and rows.

    Raises PermanentFailure when no withdrawn batch is chosen, or when it replayed rows that have been decided otherwise.
    """
    get_contract(feed)
    require_reason(reason, Code.WITHDRAW_REASON)
    with connect() as connection, ledger.transaction(connection):
        batches = [
            batch_id
            for (batch_id,) in connection.execute(
                """
                with chosen as (
                    select withdrawal_id from ops.withdrawal where batch_id = any(%s) and undone_at is null
                )
                select batch_id from ops.withdrawal
                where undone_at is null
                    and (withdrawal_id in (select * from chosen) or because_of in (select * from chosen))
                order by batch_id
                """,
                [_choose(connection, feed, chosen, "withdrawn")],
            )
        ]
        _put_back_into_quarantine(connection, feed, batches)
        connection.execute(
            """
            update ops.withdrawal set undone_at = clock_timestamp(), undone_by = %s, undone_because = %s
            where batch_id = any(%s) and undone_at is null
            """,
            [by, reason, batches],
        )
        rows = connection.execute(
            """
            update ops.batch set state = 'published', token = token + 1 where batch_id = any(%s)
            returning rows_published
            """,
            [batches],
        ).fetchall()
        feed_hooks.after_publish(connection, feed)
    feed_hooks.clean_up(feed)
    lake.follow(feed)
    return {"batches": len(batches), "rows": sum(count for (count,) in rows)}


def _choose(connection: Connection, feed: str, chosen: Chosen, state: str) -> list[int]:
    """The chosen batches in a state, locked. Raises PermanentFailure when there are none, and says what there is."""
    found = connection.execute(
        """
        select batch_id, state, deleted_at is not null from ops.batch as b
        where feed = %(feed)s
            and (%(batch)s::bigint is null or batch_id = %(batch)s)
            and (%(day)s::date is null or business_date = %(day)s)
            and (
                %(file)s::text is null
                or %(file)s in (source_uri, regexp_replace(source_uri, '^.*/', ''))
                or exists (
                    select from ops.delivery as d
                    where d.batch_id = b.batch_id
                        and %(file)s in (d.source_uri, regexp_replace(d.source_uri, '^.*/', ''))
                )
            )
        order by batch_id
        for update
        """,
        {"feed": feed, "batch": chosen.batch_id, "day": chosen.business_date, "file": chosen.file},
    ).fetchall()
    wanted = [batch_id for batch_id, its, deleted in found if its == state and not deleted]
    if not wanted:
        others = [f"batch {number} is {'deleted' if deleted else its}" for number, its, deleted in found]
        message = f"no {state} batch of {feed} is chosen by {chosen}; {', '.join(others) or 'no batch is'}"
        raise PermanentFailure(Problem(Code.WITHDRAW_NOTHING, message))
    return wanted


def _with_replays(connection: Connection, batches: list[int]) -> list[tuple[int, int]]:
    """The batches and all published replays of their rows, each with the chosen batch at the start of its chain."""
    return connection.execute(
        """
        with recursive chains as (
            select batch_id, batch_id as delivery from ops.batch where batch_id = any(%s)
            union
            select b.batch_id, chains.delivery from ops.batch as b
            inner join chains on b.replays = chains.batch_id
        )
        select distinct on (batch_id) batch_id, delivery from chains
        inner join ops.batch using (batch_id)
        where state = 'published'
        order by batch_id, delivery
        """,
        [batches],
    ).fetchall()


def _take_from_quarantine(connection: Connection, feed: str, batches: list[int]) -> None:
    """Close the open rows of the batches; rows of others that they had replayed are open again."""
    connection.execute(
        """
        update quarantine.record set state = 'withdrawn'
        where feed = %s and batch_id = any(%s) and state = 'open'
        """,
        [feed, batches],
    )
    connection.execute(
        """
        update quarantine.record set state = 'open', resolved_by_batch_id = null, decided_at = null
        where feed = %(feed)s and resolved_by_batch_id = any(%(batches)s) and batch_id <> all(%(batches)s)
        """,
        {"feed": feed, "batches": batches},
    )


def _put_back_into_quarantine(connection: Connection, feed: str, batches: list[int]) -> None:
    """Open the rows of the batches again, and close the rows of others that they replay."""
    connection.execute(
        """
        update quarantine.record set state = 'open'
        where feed = %s and batch_id = any(%s) and state = 'withdrawn'
        """,
        [feed, batches],
    )
    decided = connection.execute(
        """
        with replayed as (
            select l.batch_id, l.quarantine_id from ops.replay_line as l
            inner join quarantine.record as q using (feed, quarantine_id)
            where l.feed = %(feed)s and l.batch_id = any(%(batches)s) and q.batch_id <> all(%(batches)s)
        ),
        closed as (
            update quarantine.record as q
            set state = 'resolved', resolved_by_batch_id = replayed.batch_id, decided_at = clock_timestamp()
            from replayed
            where q.feed = %(feed)s and q.quarantine_id = replayed.quarantine_id and q.state = 'open'
            returning q.quarantine_id
        )
        select quarantine_id from replayed where quarantine_id not in (select quarantine_id from closed)
        order by 1
        """,
        {"feed": feed, "batches": batches},
    ).fetchall()
    if decided:
        rows = ", ".join(str(number) for (number,) in decided[:10])
        message = (
            f"{len(decided)} of the rows that it replays are not open any more: {rows}. They were replayed or discarded"
            " meanwhile, or their own batch is withdrawn"
        )
        raise PermanentFailure(Problem(Code.WITHDRAW_DECIDED, message))
