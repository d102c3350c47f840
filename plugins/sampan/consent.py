"""Consents: they let a bank read credit features. They come from a feed when it is published; people revoke them by command.

The row-level policies on what banks read call `ops.consent_is_live` for every row when it is read (see ADR 0023).
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from psycopg.rows import dict_row

from sampan.database import Connection, connect, scalar
from sampan.errors import Code, PermanentFailure, Problem, require_reason

FEED = "cdi_consents"
CONSENT_ID = re.compile(r"CS[0-9]{10}")


def take_in(connection: Connection) -> int:
    """Update ops.consent with the published batches that it lacks. Returns how many consents changed.

    Call it in the transaction that publishes: a revocation counts from its commit on.
    """
    return int(scalar(connection, "select ops.take_in_consents()"))


def revoke(consent_id: str, reason: str, person: str) -> bool:
    """Revoke a consent now, regardless of what the feed says later. Returns False when it was already revoked here.

    A consent that no delivery has shown yet can be revoked too: it is then revoked from its first delivery on.
    """
    if not CONSENT_ID.fullmatch(consent_id):
        message = f"invalid consent id {consent_id!r}: expected CS followed by 10 digits"
        raise PermanentFailure(Problem(Code.CONSENT_UNKNOWN, message))
    require_reason(reason, Code.CONSENT_REASON)
    with connect() as connection:
        cursor = connection.execute(
            """
            insert into ops.consent_revocation (consent_id, revoked_by, reason) values (%s, %s, %s)
            on conflict do nothing
            """,
            [consent_id, person, reason],
        )
        return cursor.rowcount == 1


def keep_revocations(connection: Connection, batch_id: int) -> int:
    """Keep what the feed revoked in a batch that is about to be deleted, so that nothing revives it. Returns how many.

    Call it in the transaction that deletes the batch. A revocation that a newer delivery corrects is not kept.
    """
    return connection.execute(
        """
        insert into ops.consent_revocation (consent_id, revoked_at, revoked_by, reason)
        select
            said.consent_id,
            min(said.status_at),
            'retention',
            'the feed revoked it in a delivery that is past its retention'
        from raw.cdi_consents as said
        join ops.batch as b on b.batch_id = said._batch_id
        where said._batch_id = %s and said.status = 'revoked' and not exists (
            select from raw.cdi_consents as newer
            join ops.batch as n on n.batch_id = newer._batch_id
            where newer.consent_id = said.consent_id and newer.status_at = said.status_at
                and (n.business_date, n.received_at, n.batch_id) > (b.business_date, b.received_at, b.batch_id)
        )
        group by said.consent_id
        on conflict do nothing
        """,
        [batch_id],
    ).rowcount


def delete_expired(connection: Connection, on: date, retention_days: int) -> int:
    """Delete consents that ended more than `retention_days` before a day, and record it in ops.deletion. Returns how many.

    Revocations stay: a consent that was revoked must not become valid again.
    """
    deleted = connection.execute(
        """
        delete from ops.consent as c
        where greatest(
            status_at::date, (select max(valid_to) from ops.consent_change as h where h.consent_id = c.consent_id)
        ) < %s::date - %s::int
        """,
        [on, retention_days],
    ).rowcount
    if deleted:
        connection.execute(
            """
            insert into ops.deletion (kind, feed, reason, rows_derived, database_at, verified_at)
            values ('consents', %s, %s, %s, clock_timestamp(), clock_timestamp())
            """,
            [FEED, f"ended more than {retention_days} days before {on}", deleted],
        )
    return deleted


def describe(consent_id: str) -> dict[str, Any]:
    """One consent: owner, bank, purpose, dates and, per scope, whether it is live now. Raises PermanentFailure if unknown."""
    with connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(
            """
            select bank_id, brn, provider, purpose, scopes, valid_from, valid_to, status, status_at, is_revoked
            from ops.consent_now
            where consent_id = %s
            """,
            [consent_id],
        ).fetchone()
        if found is None:
            raise PermanentFailure(Problem(Code.CONSENT_UNKNOWN, f"no delivery contains consent {consent_id!r}"))
        revoked = cursor.execute(
            "select revoked_by, revoked_at, reason from ops.consent_revocation where consent_id = %s", [consent_id]
        ).fetchone()
        live = connection.execute(
            "select scope from unnest(%s::text[]) as scope where ops.consent_is_live(%s, %s, scope, %s, %s)",
            [found["scopes"], consent_id, found["bank_id"], found["brn"], found["provider"]],
        ).fetchall()
    found["live_scopes"] = [scope for (scope,) in live]
    if revoked:
        found["revoked_here"] = (
            f"by {revoked['revoked_by']} at {revoked['revoked_at']:%Y-%m-%d %H:%M:%S}: {revoked['reason']}"
        )
    return found
