"""Consents: what lets a bank read credit features, taken from the feed when it is published, and revoked by command.

The policies on what banks read ask `ops.consent_is_live` for every row at the moment it is read (see ADR 0023).
"""

from __future__ import annotations

import re
from typing import Any

import psycopg

from sampan.database import connect
from sampan.errors import Code, PermanentFailure, Problem, require_reason

FEED = "cdi_consents"
CONSENT = re.compile(r"CS[0-9]{10}")


def take_in(connection: psycopg.Connection[Any]) -> int:
    """Bring ops.consent up to date with the published batches that it lacks. Returns how many consents changed.

    Belongs into the transaction that publishes: from its commit on, a revocation counts.
    """
    return int(connection.execute("select ops.take_in_consents()").fetchone()[0])  # type: ignore[index]


def revoke(consent_id: str, reason: str, person: str) -> bool:
    """Revoke a consent now, whatever the feed says of it later. Returns False when it was revoked here before.

    A consent that no delivery has shown yet may be revoked too: it is dead when it comes.
    """
    if not CONSENT.fullmatch(consent_id):
        raise PermanentFailure(Problem(Code.CONSENT_UNKNOWN, f"{consent_id!r} is no consent; one is CS and ten digits"))
    require_reason(reason, Code.CONSENT_REASON)
    with connect() as connection:
        cursor = connection.execute(
            "insert into ops.consent_revocation (consent_id, revoked_by, reason) values (%s, %s, %s)"
            " on conflict do nothing",
            [consent_id, person, reason],
        )
        return cursor.rowcount == 1


def keep_revocations(connection: psycopg.Connection[Any], batch_id: int) -> int:
    """Keep what the feed revoked in a batch that is about to be deleted, so that nothing revives it. Returns how many.

    Belongs into the transaction that deletes the batch. A revocation that a newer delivery corrects is none and not kept.
    """
    return connection.execute(
        "insert into ops.consent_revocation (consent_id, revoked_at, revoked_by, reason)"
        " select said.consent_id, min(said.status_at), 'retention',"
        " 'the feed revoked it in a delivery that is past its retention'"
        " from raw.cdi_consents said join ops.batch b on b.batch_id = said._batch_id"
        " where said._batch_id = %s and said.status = 'revoked' and not exists ("
        " select from raw.cdi_consents newer join ops.batch n on n.batch_id = newer._batch_id"
        " where newer.consent_id = said.consent_id and newer.status_at = said.status_at"
        " and (n.business_date, n.received_at, n.batch_id) > (b.business_date, b.received_at, b.batch_id)"
        ") group by said.consent_id on conflict do nothing",
        [batch_id],
    ).rowcount


def standing(consent_id: str) -> dict[str, Any]:
    """One consent: whose, to whom, for what, until when, and per scope whether it is live now. Raises when it is unknown."""
    columns = (
        "bank_id",
        "brn",
        "provider",
        "purpose",
        "scopes",
        "valid_from",
        "valid_to",
        "status",
        "status_at",
        "is_revoked",
    )
    with connect() as connection:
        row = connection.execute(
            f"select {', '.join(columns)} from ops.consent_now where consent_id = %s", [consent_id]
        ).fetchone()
        if row is None:
            raise PermanentFailure(Problem(Code.CONSENT_UNKNOWN, f"no delivery has shown consent {consent_id!r}"))
        found = dict(zip(columns, row, strict=True))
        revoked = connection.execute(
            "select revoked_by, revoked_at, reason from ops.consent_revocation where consent_id = %s", [consent_id]
        ).fetchone()
        live = connection.execute(
            "select scope from unnest(%s::text[]) scope where ops.consent_is_live(%s, %s, scope, %s, %s)",
            [found["scopes"], consent_id, found["bank_id"], found["brn"], found["provider"]],
        ).fetchall()
    found["live_scopes"] = [scope for (scope,) in live]
    if revoked:
        found["revoked_here"] = f"by {revoked[0]} at {revoked[1]:%Y-%m-%d %H:%M:%S}: {revoked[2]}"
    return found
