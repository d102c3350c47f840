"""What has to happen when batches of certain feeds are published, rejected or deleted. Generic steps call these hooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from sampan import consent
from sampan.alerts import raise_alert
from sampan.contracts.model import Contract
from sampan.contracts.registry import get_contract
from sampan.database import Connection


@dataclass(frozen=True)
class FeedHooks:
    """The hooks of one feed. Each that gets a connection runs in the transaction of its caller."""

    take_in: Callable[[Connection], int]
    """Take in every published batch that was not taken in yet."""
    on_rejected: Callable[[Connection, consent.Rejected], str]
    """Draw the consequences of what did not get through. Returns them as sentences for an alert."""
    on_ignored: Callable[[Connection, consent.Rejected], str]
    """Draw the consequences of an object that is ignored by its name. Returns them, or nothing if it has no news."""
    on_astray: Callable[[Connection, Contract, consent.Rejected], str]
    """As `on_ignored`, of what did not get through as another feed of the same partner, whose contract is given."""
    take_in_again: Callable[[Connection, list[int]], int]
    """Take published batches in again, whose place among the others has changed."""
    on_withdrawn: Callable[[Connection, list[int]], str]
    """Draw the consequences of batches that were published and count no more. Returns them as sentences for an alert."""
    clean_up: Callable[[], int]
    """Delete what rests on something that has ended, after it was committed or when a day has passed."""
    before_delete: Callable[[Connection, int], int]
    """Keep what must outlive a batch that is about to be deleted, given its number."""
    delete_expired: Callable[[Connection, date, int], int]
    """Delete what was derived from the feed and is past its retention, given the day and the retention in days."""
    derived: str
    """Plural name of what is derived from the feed."""


HOOKS = {
    consent.FEED: FeedHooks(
        take_in=consent.take_in,
        on_rejected=consent.suspend,
        on_ignored=consent.suspend_ignored,
        on_astray=consent.suspend_astray,
        take_in_again=consent.take_in_again,
        on_withdrawn=consent.withdraw,
        clean_up=consent.delete_dead_rows,
        before_delete=consent.keep_revocations,
        delete_expired=consent.delete_expired,
        derived="consents",
    ),
}


def after_publish(connection: Connection, feed: str) -> None:
    """Run the feed's hook, if it has one, in the transaction that publishes a batch."""
    if feed in HOOKS:
        HOOKS[feed].take_in(connection)


def after_return(connection: Connection, feed: str, batches: list[int]) -> None:
    """Run the feed's hook, if it has one, in the transaction that gives batches another place among the others."""
    if feed in HOOKS:
        HOOKS[feed].take_in_again(connection, batches)


def after_withdraw(connection: Connection, feed: str, batches: list[int]) -> str:
    """Run the feed's hook, if it has one, in the transaction that withdraws batches. Returns what followed, as sentences."""
    return HOOKS[feed].on_withdrawn(connection, batches) if feed in HOOKS else ""


def clean_up(feed: str) -> None:
    """Run the feed's hook, if it has one, after what the caller did was committed."""
    if feed in HOOKS:
        HOOKS[feed].clean_up()


def on_rejected(connection: Connection, feed: str, what: str, rejected: consent.Rejected) -> None:
    """Call it in the transaction that quarantines rows, or holds or refuses a delivery. `what` says so in words.

    Runs the feed's hook, if it has one, and alerts the owner where the contract says `alertOnRejected`.
    """
    contract = get_contract(feed)
    consequences = HOOKS[feed].on_rejected(connection, rejected) if feed in HOOKS else ""
    if contract.alert_on_rejected:
        message = f"for {contract.owner} <{contract.contact}>: {what}. {consequences}".strip()
        raise_alert(connection, "rejected", feed, message)
    _on_astray(connection, contract, what, rejected)


def _on_astray(connection: Connection, contract: Contract, what: str, rejected: consent.Rejected) -> None:
    """News of a feed with hooks that its partner put into the folder of another feed is lost as well."""
    for feed, hooks in HOOKS.items():
        own = get_contract(feed)
        if own.partner == contract.partner and feed != contract.feed:
            consequences = hooks.on_astray(connection, contract, rejected)
            if consequences:
                message = f"for {own.owner} <{own.contact}>: {what}, and reads like {feed}. {consequences}"
                raise_alert(connection, "rejected", feed, message)


def on_ignored(connection: Connection, feed: str, what: str, rejected: consent.Rejected) -> None:
    """Call it in the transaction that ignores an object because of its name. `what` says so in words.

    Runs the feed's hook, if it has one, and alerts the owner when the object has news.
    """
    contract = get_contract(feed)
    if feed in HOOKS and (consequences := HOOKS[feed].on_ignored(connection, rejected)):
        raise_alert(connection, "rejected", feed, f"for {contract.owner} <{contract.contact}>: {what}. {consequences}")
    _on_astray(connection, contract, what, rejected)


def clean_up_all() -> None:
    """Delete what rests on something that has ended, of all feeds with hooks."""
    for hooks in HOOKS.values():
        hooks.clean_up()


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
