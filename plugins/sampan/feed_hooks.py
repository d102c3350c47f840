"""What has to happen when batches of certain feeds are published or deleted. Generic steps call these hooks by feed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from sampan import consent
from sampan.contracts.registry import get_contract
from sampan.database import Connection


@dataclass(frozen=True)
class FeedHooks:
    """The hooks of one feed. Each runs in the transaction of its caller."""

    take_in: Callable[[Connection], int]
    """Take in every published batch that was not taken in yet."""
    before_delete: Callable[[Connection, int], int]
    """Keep what must outlive a batch that is about to be deleted, given its number."""
    delete_expired: Callable[[Connection, date, int], int]
    """Delete what was derived from the feed and is past its retention, given the day and the retention in days."""
    derived: str
    """Plural name of what is derived from the feed."""


HOOKS = {
    consent.FEED: FeedHooks(consent.take_in, consent.keep_revocations, consent.delete_expired, "consents"),
}


def after_publish(connection: Connection, feed: str) -> None:
    """Run the feed's hook, if it has one, in the transaction that publishes a batch."""
    if feed in HOOKS:
        HOOKS[feed].take_in(connection)


def before_build(connection: Connection) -> None:
    """Take in the batches of all feeds with hooks, including those that were not published by the publish step."""
    for hooks in HOOKS.values():
        hooks.take_in(connection)


def before_delete(connection: Connection, feed: str, batch_id: int) -> None:
    """Run the feed's hook, if it has one, in the transaction that deletes a batch."""
    if feed in HOOKS:
        HOOKS[feed].before_delete(connection, batch_id)


def delete_expired(connection: Connection, on: date) -> dict[str, int]:
    """Delete what is past its retention on a day. Returns how many were deleted, by plural name."""
    done = {}
    for feed, hooks in HOOKS.items():
        with connection.transaction():
            done[hooks.derived] = hooks.delete_expired(connection, on, get_contract(feed).retention_days)
    return done
