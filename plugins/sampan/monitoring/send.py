"""Send alerts: on a change of state, grouped by recipient and cause, and never the same message twice.

A message is claimed in the database, given to its channel, and then marked as sent. A sender that dies in between leaves it
claimed: whether it arrived is not known, so it is not sent again, and the operators get another message that says so (at
most once). A channel that says no is asked again, with the same idempotency key. See ADR 0042.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sampan import database, failpoints
from sampan.alerts import raise_alert
from sampan.contracts.registry import all_contracts
from sampan.database import Connection, connect
from sampan.monitoring import broken
from sampan.monitoring.kinds import kind_of
from sampan.settings import settings
from sampan.text import inert

log = logging.getLogger(__name__)
OPERATORS, PARTNERS = "SAMPAN_NOTIFY_OPERATORS", "SAMPAN_NOTIFY_PARTNERS"
# Older alerts are not sent: a channel that is set up today does not begin with last month's.
NEWER_THAN = "1 day"
MOST_ATTEMPTS = 5
# How many alerts of one cause a message quotes.
QUOTED = 5
# Namespace of the idempotency keys (a UUID made once).
KEYS = uuid.UUID("5bd0a8a5-0f0c-4c6e-9d6d-6f9a6b8f3d51")


@dataclass(frozen=True)
class Alert:
    """An alert that waits to be sent."""

    alert_id: int
    kind: str
    feed: str | None
    severity: str
    cause: str
    message: str


def run() -> dict[str, int]:
    """Raise alerts for states that have begun or ended, then send what waits. Returns how many messages were sent and failed.

    Raises TransientFailure when another sender is at work.
    """
    done = {"raised": 0, "sent": 0, "failed": 0, "unknown": 0}
    with connect() as connection, database.lock("loader", "send_alerts", "another process is sending alerts"):
        done["raised"] = _raise_changes(connection)
        done["unknown"] = _give_up_unfinished(connection)
        with connection.transaction():
            _make_messages(connection)
        for message in _waiting(connection):
            done["sent" if _send(connection, *message) else "failed"] += 1
    return done


# --- changes of state -------------------------------------------------------------------------------------------------


def _raise_changes(connection: Connection) -> int:
    """Raise one alert for each cause that is broken and has none yet, and one for each that is well again and was told of.

    A feed with a delivery on its way is left alone: it may replace what is held.
    """
    by_cause: dict[str, list[broken.Fault]] = {}
    for fault in broken.faults(connection):
        by_cause.setdefault(fault.cause, []).append(fault)
    open_causes: dict[str, tuple[str | None, bool]] = {
        cause: (feed, told)
        for cause, feed, told in connection.execute(
            """
            select cause, feed, bool_or(sent_at is not null) from ops.alert
            where ended_at is null and kind = any(%s)
            group by cause, feed
            """,
            [[*broken.STATES]],
        ).fetchall()
    }
    moving = {feed for (feed,) in connection.execute("select feed from ops.feed_on_the_way").fetchall()}
    feeds = all_contracts()
    raised = 0
    with connection.transaction():
        for cause in by_cause.keys() - open_causes.keys():
            first = by_cause[cause][0]
            if first.subject in moving:
                continue
            lines = [
                f"{first.subject}, {fault.state}" + (f", {fault.dates}" if fault.dates else "") + f": {fault.why}"
                for fault in by_cause[cause]
            ]
            feed = first.subject if first.subject in feeds else None
            raise_alert(connection, cause.partition(":")[0], feed, "; ".join(lines), cause)
            raised += 1
        for cause in open_causes.keys() - by_cause.keys():
            feed, told = open_causes[cause]
            if told:
                raise_alert(connection, "recovered", feed, f"{cause.partition(':')[2]} is well again", cause)
                raised += 1
            connection.execute(
                "update ops.alert set ended_at = clock_timestamp() where cause = %s and ended_at is null", [cause]
            )
    return raised


# --- messages ---------------------------------------------------------------------------------------------------------


def channels() -> dict[str, str]:
    """The addresses that operators are told at, by the name of the channel: operators/1, operators/2, ..."""
    addresses = settings().get(OPERATORS, "").split()
    return {f"operators/{number}": address for number, address in enumerate(addresses, 1)}


def _make_messages(connection: Connection) -> None:
    """One message for each channel of the operators, and one for each contact of partners, of all that is new to it.

    Silenced and acknowledged alerts, and what was told before word for word, are in none.
    """
    rows = connection.execute(
        """
        select alert_id, kind, feed, severity, cause, message from ops.alert as alert
        where
            raised_at > clock_timestamp() - %s::interval and acknowledged_at is null
            and (silenced_until is null or silenced_until <= clock_timestamp())
            and not exists (
                select from ops.alert as earlier
                where
                    earlier.cause = alert.cause and earlier.message = alert.message and earlier.alert_id < alert.alert_id
                    and earlier.ended_at is null and earlier.raised_at > alert.raised_at - interval '7 days'
            )
        order by alert_id
        """,
        [NEWER_THAN],
    ).fetchall()
    alerts = [Alert(*row) for row in rows]
    for channel in channels():
        _make_message(connection, channel, "operators", alerts)
    if settings().get(PARTNERS, ""):
        contracts = all_contracts()
        by_contact: dict[str, list[Alert]] = {}
        for alert in alerts:
            if alert.feed in contracts and kind_of(alert.kind).for_partners:
                by_contact.setdefault(contracts[alert.feed].contact, []).append(alert)
        for contact, of_contact in by_contact.items():
            _make_message(connection, "partners", contact, of_contact)


def _make_message(connection: Connection, channel: str, recipient: str, alerts: list[Alert]) -> None:
    known = {
        alert_id
        for (alert_id,) in connection.execute(
            "select unnest(alert_ids) from ops.alert_message where channel = %s and recipient = %s",
            [channel, recipient],
        ).fetchall()
    }
    new = [alert for alert in alerts if alert.alert_id not in known]
    if not new:
        return
    numbers = [alert.alert_id for alert in new]
    key = uuid.uuid5(KEYS, f"{channel} {recipient} {numbers}")
    subject, body = text_of(new)
    body += f"\n\nSampan, {key}"
    connection.execute(
        """
        insert into ops.alert_message (idempotency_key, channel, recipient, alert_ids, subject, body)
        values (%s, %s, %s, %s, %s, %s)
        """,
        [key, channel, recipient, numbers, subject, body],
    )


def text_of(alerts: Iterable[Alert]) -> tuple[str, str]:
    """Subject and body of a message, in both languages; alerts of one cause stand together, the gravest cause first."""
    by_cause: dict[str, list[Alert]] = {}
    for alert in alerts:
        by_cause.setdefault(f"{alert.cause} {alert.kind}", []).append(alert)
    groups = sorted(by_cause.values(), key=lambda group: ("critical", "warning", "info").index(group[0].severity))
    english, chinese = kind_of(groups[0][0].kind).title
    of = groups[0][0].feed or groups[0][0].cause.partition(":")[2]
    subject = f"[Sampan] {english}{f' ({of})' if of else ''} · {chinese}"
    if len(groups) > 1:
        subject += f" +{len(groups) - 1}"
    parts = []
    for group in groups:
        kind, first = kind_of(group[0].kind), group[0]
        of = first.feed or first.cause.partition(":")[2]
        lines = [f"{title}{f': {of}' if of else ''}" for title in kind.title]
        # Of partners' texts: names of files, headers, values.
        lines += [f"  - {inert(alert.message)}" for alert in group[:QUOTED]]
        if len(group) > QUOTED:
            lines.append(f"  - +{len(group) - QUOTED}")
        parts.append("\n".join([*lines, *kind.what_to_do]))
    return subject, "\n\n".join(parts)


# --- sending ----------------------------------------------------------------------------------------------------------


def _give_up_unfinished(connection: Connection) -> int:
    """Mark messages whose sender died while it was sending, and tell the operators. Only one sender is at work at a time."""
    with connection.transaction():
        rows = connection.execute(
            """
            update ops.alert_message set state = 'unknown', ended_at = clock_timestamp()
            where state = 'sending'
            returning message_id, channel, recipient, claimed_at, alert_ids
            """
        ).fetchall()
        for number, channel, recipient, at, alerts in rows:
            message = (
                f"message {number} to {recipient} ({channel}) of {at:%F %R} may not have arrived: its sender stopped while"
                f" it was sending. It tells of alerts {', '.join(map(str, alerts))}; see `sampan alerts list`. To send it"
                f" once more: `sampan alerts send --again {number}`"
            )
            raise_alert(connection, "unsent", None, message, f"unsent:{number}")
    return len(rows)


def again(message_id: int) -> bool:
    """Let a message whose fate is unknown, or that failed, be sent once more, within a week.

    Returns False when there is no such message.
    """
    with connect() as connection:
        done = connection.execute(
            """
            update ops.alert_message set state = 'waiting', attempts = 0
            where message_id = %s and state in ('unknown', 'failed') and body is not null
            """,
            [message_id],
        )
        return done.rowcount == 1


def _waiting(connection: Connection) -> list[tuple[Any, ...]]:
    """Messages to send: new ones, and those that failed, with growing pauses (1, 2, 4, ... minutes)."""
    return connection.execute(
        """
        select message_id, idempotency_key, channel, recipient, subject, body, attempts from ops.alert_message
        where
            state = 'waiting'
            or state = 'failed' and attempts < %s and body is not null
            and ended_at + power(2, attempts - 1) * interval '1 minute' < clock_timestamp()
        order by message_id
        """,
        [MOST_ATTEMPTS],
    ).fetchall()


def _send(
    connection: Connection,
    number: int,
    key: uuid.UUID,
    channel: str,
    recipient: str,
    subject: str,
    body: str,
    attempts: int,
) -> bool:
    """Claim a message, give it to its channel, and mark it. Returns whether the channel took it."""
    connection.execute(
        """
        update ops.alert_message set state = 'sending', attempts = attempts + 1, claimed_at = clock_timestamp()
        where message_id = %s
        """,
        [number],
    )
    failpoints.hit("alerts.before_send")
    problem = _deliver(channel, recipient, key, subject, body)
    failpoints.hit("alerts.after_send")
    with connection.transaction():
        connection.execute(
            """
            update ops.alert_message set
                state = %s, ended_at = clock_timestamp(), problem = %s, body = case when %s then body end
            where message_id = %s
            """,
            ["failed" if problem else "sent", problem, problem is not None, number],
        )
        if problem is None:
            connection.execute(
                """
                update ops.alert set sent_at = clock_timestamp()
                where
                    sent_at is null
                    and alert_id in (select unnest(alert_ids) from ops.alert_message where message_id = %s)
                """,
                [number],
            )
    if problem:
        last = attempts + 1 >= MOST_ATTEMPTS
        log.warning("message %s to %s: %s%s", number, channel, problem, "; given up" if last else "")
    return problem is None


def _deliver(channel: str, recipient: str, key: uuid.UUID, subject: str, body: str) -> str | None:
    """Give a message to its channel. Returns what went wrong, without the address, which may hold a secret."""
    import apprise

    template = settings().get(PARTNERS, "") if channel == "partners" else channels().get(channel, "")
    address = template.replace("{to}", quote(recipient, safe=""))
    if not address:
        return "the channel is no longer configured"
    glue = "&" if "?" in address else "?"
    address += f"{glue}+Idempotency-Key={key}"
    asset = apprise.AppriseAsset(app_id="Sampan", app_desc="Sampan", app_url="", storage_mode="memory")
    sender = apprise.Apprise(asset=asset)
    # What they say to those who debug has the whole address.
    for name in ("apprise", "urllib3"):
        logging.getLogger(name).setLevel(logging.INFO)
    # It would quote an address that it does not understand.
    logging.getLogger("apprise").disabled = True
    is_understood = sender.add(address)
    logging.getLogger("apprise").disabled = False
    if not is_understood:
        return "the address is not one that apprise understands"
    taken = sender.notify(body=body, title=subject, body_format=apprise.NotifyFormat.TEXT)
    return None if taken else "the channel did not take it; the lines above say why"
