"""Consents: they let a bank read credit features. They come from a feed when it is published; people revoke them by command.

The row-level policies on what banks read call `ops.consent_is_live` for every row when it is read (see ADR 0023).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, cast

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from sampan.contracts.model import Contract
from sampan.contracts.registry import get_contract
from sampan.database import Connection, connect, scalar
from sampan.errors import Code, PermanentFailure, Problem, SettingsFailure, require_reason

FEED = "cdi_consents"
CONSENT_ID = re.compile(r"CS[0-9]{10}")
# As people and broken files write them: gaps between the characters, letters that look like digits, and the digits alone.
# One with a digit too many is another number.
_GAP = r"(?:\\[BFNRT]|[^0-9A-Z]){0,3}"
_DIGIT, MISREAD = "[0-9OIL]", str.maketrans("OIL", "011")
LEGIBLE = re.compile(
    rf"C{_GAP}[S5]{_GAP}((?:{_DIGIT}{_GAP}){{9}}{_DIGIT})(?![0-9])|(?<![0-9A-Z])([0-9]{{10}})(?![0-9A-Z])"
)
# Of the names of columns that the feed of consents has, and another feed has not.
LEAST_IN_COMMON = 2
# What is known of a delivery that was refused before anyone read it.
UNREAD = (Code.DELIVERY_MARKER, Code.DELIVERY_GONE, Code.DELIVERY_DENIED, Code.DELIVERY_KEY)
# How many consents an alert names.
NAMED = 50
# Of at most two MiB each.
ROWS_AT_ONCE = 50


@dataclass(frozen=True)
class Rejected:
    """What did not get through: the object that holds it, None when that is gone, and where it is recorded.

    Either a batch, all of it or (`rows`) its quarantined rows; or a refused delivery by its entity tag.
    """

    uri: str | None
    batch_id: int | None = None
    rows: bool = False
    etag: str | None = None


def take_in(connection: Connection) -> int:
    """Update ops.consent with the published batches that it lacks. Returns how many consents changed.

    Call it in the transaction that publishes: a revocation counts from its commit on.
    """
    return int(scalar(connection, "select ops.take_in_consents()"))


def take_in_again(connection: Connection, batches: list[int]) -> int:
    """Take published batches in again: another one of the same change may count now. Returns how many consents changed."""
    connection.execute("delete from ops.consent_batch where batch_id = any(%s)", [batches])
    return take_in(connection)


def withdraw(connection: Connection, batches: list[int]) -> str:
    """Take batches out of ops.consent that were published and count no more. Returns what was done, for an alert.

    Call it in the transaction that withdraws. It fails closed: what they revoked stays revoked, and no bank reads under
    consents that they spoke of and that have other terms until a person lifts it, or the withdrawal is undone.
    """
    suspended = scalar(connection, "select ops.withdraw_consents(%s)", [batches])
    if not suspended:
        return "What it revoked stays revoked."
    return (
        f"What it revoked stays revoked, and {suspended} consents that it spoke of are suspended: `sampan consent suspended`"
        " names them, `sampan consent lift` lifts what still holds."
    )


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
    delete_dead_rows()
    return cursor.rowcount == 1


def delete_dead_rows() -> int:
    """Delete the rows of consents that do not hold any more from every kept release and from a build. Returns how many.

    Banks cannot read them anyway; this leaves nothing to read. The tables are the builder's, so that its role deletes: no
    code of its tables runs with the loader's rights.
    """
    deleted = 0
    with connect("builder") as connection:
        marts = connection.execute(
            """
            select c.oid::regclass::text, min(scope.attname)
            from pg_class as c
            -- In releases of version 0.1.0 it was `scope`.
            join pg_attribute as scope on scope.attrelid = c.oid and scope.attname in ('consent_scope', 'scope')
            where c.relkind = 'r' and c.relrowsecurity and pg_has_role(c.relowner, 'usage') and 2 = (
                select count(*) from pg_attribute as a
                where a.attrelid = c.oid and a.attname in ('consent_brn', 'provider') and not a.attisdropped
            )
            group by c.oid
            order by c.oid
            """
        ).fetchall()
        for mart, scope in marts:
            # A release that is dropped meanwhile takes its rows along.
            with suppress(psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                deleted += connection.execute(
                    sql.SQL(
                        "delete from {} where not ops.consent_holds(consent_id, bank_id, {}, consent_brn, provider)"
                    ).format(sql.SQL(mart), sql.Identifier(scope))
                ).rowcount
    return deleted


# --- what did not get through -----------------------------------------------------------------------------------------


def suspend(connection: Connection, rejected: Rejected) -> str:
    """Suspend every consent that can be read off what did not get through. Returns what was done, for an alert.

    Any status counts: a renewal may narrow a consent, and a status that was misspelt may be a revocation. Call it in the
    transaction that rejects: until a person lifts it, or what was lost is published, no bank reads under the consent.
    Where it is gone, a copy beside it that is ignored by its name is read instead.
    """
    if rejected.uri is None:
        rejected = replace(rejected, uri=_ignored_copy(connection, rejected.etag))
    found, illegible, is_whole = _suspend_all(connection, rejected, get_contract(FEED))
    return _told(found, illegible, is_whole)


def suspend_ignored(connection: Connection, rejected: Rejected) -> str:
    """Suspend every consent that can be read off an object that is not read because of its name, such as `x.jsonl.part`.

    Returns what was done, for an alert; nothing when it names no consent, or when a delivery that is read has the same
    content. Should that be gone before it is read, `suspend` reads this one.
    """
    query = "select from ops.delivery where feed = %s and etag = %s and coalesce(problem ->> 'rule', '') <> all(%s)"
    if connection.execute(query, [FEED, rejected.etag, [*UNREAD]]).fetchone() is not None:
        return ""
    found, _, is_whole = _suspend_all(connection, rejected, get_contract(FEED))
    return _told(found, 0, is_whole) if found or not is_whole else ""


def _ignored_copy(connection: Connection, etag: str | None) -> str | None:
    """Address of an object with the same content that was ignored by its name, if there is one."""
    query = """
        select max(source_uri) from ops.delivery
        where feed = %s and etag = %s and problem ->> 'rule' = %s and deleted_at is null
    """
    return cast(str | None, scalar(connection, query, [FEED, etag, Code.DELIVERY_MARKER]))


def suspend_astray(connection: Connection, contract: Contract, rejected: Rejected) -> str:
    """Suspend every consent that can be read off what did not get through as another feed, if it reads like changes of them.

    Returns what was done, for an alert; nothing when it does not. What names consents as that feed does suspends nothing.
    """
    found, _, is_whole = _suspend_all(connection, rejected, contract)
    return _told(found, 0, is_whole) if found else ""


def _suspend_all(connection: Connection, rejected: Rejected, contract: Contract) -> tuple[list[str], int, bool]:
    """Suspend what can be read off. Returns the consents, how many rows name none, and whether all of it was read.

    `contract` is that of the feed in whose folder it lies.
    """
    # Here, so that the DAG processor, which reads this module, loads no S3 client.
    from sampan.object_store import ObjectRefused
    from sampan.reading import legible

    is_change = contract.feed == FEED
    found: set[tuple[str, int | None]] = set()
    lines: set[int] | None = None
    if rejected.rows:
        lines = set()
        # By a cursor of the server: together the texts may be larger than the memory.
        with connection.cursor("rejected_rows") as texts:
            texts.itersize = ROWS_AT_ONCE
            texts.execute(
                "select line, concat(record, ' ', fields) from quarantine.record where feed = %s and batch_id = %s",
                [contract.feed, rejected.batch_id],
            )
            for line, text in texts:
                lines.add(line)
                found |= {(consent_id, line) for consent_id in consent_ids(text)}
                is_change = is_change or _reads_like_changes(text, contract)
    else:
        # A scanned letter has it in its name only.
        name = _names(connection, rejected)
        found |= {(consent_id, None) for consent_id in consent_ids(name)}
        is_change = is_change or _reads_like_changes(name, contract)
    is_whole = rejected.uri is not None
    if rejected.uri is not None:
        try:
            for line, text in legible.pieces(contract, rejected.uri, lines):
                found |= {(consent_id, line) for consent_id in consent_ids(text)}
                is_change = is_change or _reads_like_changes(text, contract)
        except SettingsFailure:
            raise
        except PermanentFailure:
            is_whole = False
        except ObjectRefused:
            # Removed meanwhile, or kept under a key of the partner's own: no later try would read it, and it would keep
            # the deliveries behind it waiting. What was landed has to be there.
            if rejected.batch_id is not None:
                raise
            is_whole = False
    if not is_change:
        return [], 0, is_whole
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into ops.consent_suspension (consent_id, batch_id, line, etag) values (%s, %s, %s, %s)
            on conflict do nothing
            """,
            [(consent_id, rejected.batch_id, line, rejected.etag) for consent_id, line in sorted(found)],
        )
    illegible = len((lines or set()) - {line for _, line in found})
    return sorted({consent_id for consent_id, _ in found}), illegible, is_whole


def _names(connection: Connection, rejected: Rejected) -> str:
    """The addresses under which the partner put what did not get through."""
    query = "select string_agg(source_uri, ' ') from ops.delivery where batch_id = %s or etag = %s"
    return cast(str | None, scalar(connection, query, [rejected.batch_id, rejected.etag])) or ""


def _reads_like_changes(text: str, contract: Contract) -> bool:
    """Whether a text in the folder of another feed says that something is revoked, or has columns that only consents have."""
    from sampan.reading import hkid

    text = hkid.decoded(text)
    own = {c.source_name for c in get_contract(FEED).columns} - {c.source_name for c in contract.columns}
    names = set(re.findall(r"\w+", text))
    return "REVOKED" in text.upper() or len(own & names) >= LEAST_IN_COMMON


def _told(consents: list[str], illegible: int, is_whole: bool) -> str:
    """What the owner of the feed has to know of a suspension."""
    named = ", ".join(consents[:NAMED]) + (", ..." if len(consents) > NAMED else "")
    parts = [
        f"Suspended until it is published or a person lifts it (`sampan consent lift`): {named}" if consents else "",
        f"No consent id could be read off {illegible} of the rows: ask the partner which they were"
        if illegible
        else "",
        "" if is_whole else "It could not be read to its end: ask the partner which consents it contained",
        "No consent id could be read off it" if not consents and not illegible and is_whole else "",
    ]
    return ". ".join(part for part in parts if part)


def consent_ids(text: str) -> set[str]:
    """Consent ids that can be read off a text, in any case, width and script, with gaps, codes of characters and O for 0."""
    from sampan.reading import hkid

    found = (match[1] or match[2] for match in LEGIBLE.finditer(hkid.decoded(text).upper()))
    return {"CS" + re.sub("[^0-9]", "", digits.translate(MISREAD)) for digits in found}


def lift(consents: Collection[str], batch_id: int | None, reason: str, person: str) -> int:
    """Lift the suspensions of consents, or all that were read off a batch. Returns of how many consents.

    A consent that was revoked meanwhile stays revoked. Raises PermanentFailure when one of the consents is not suspended.
    """
    require_reason(reason, Code.CONSENT_REASON)
    with connect() as connection, connection.transaction():
        lifted = {
            consent_id
            for (consent_id,) in connection.execute(
                """
                update ops.consent_suspension
                set lifted_at = clock_timestamp(), lifted_by = %s, reason = %s
                where lifted_at is null and (consent_id = any(%s) or batch_id = %s)
                returning consent_id
                """,
                [person, reason, list(consents), batch_id],
            )
        }
        missing = sorted(set(consents) - lifted)
        if missing or not lifted:
            what = ", ".join(missing) or (
                "no consent was named" if batch_id is None else f"nothing of batch {batch_id}"
            )
            raise PermanentFailure(Problem(Code.CONSENT_NOT_SUSPENDED, f"not suspended: {what}"))
    return len(lifted)


def suspended() -> list[tuple[Any, ...]]:
    """Suspensions that last: consent, since when, batch, its business date, line, entity tag of a refused file."""
    with connect() as connection:
        return connection.execute(
            """
            select s.consent_id, s.suspended_at, s.batch_id, b.business_date, s.line, s.etag
            from ops.consent_suspension as s
            left join ops.batch as b using (batch_id)
            where s.lifted_at is null
            order by s.suspended_at, s.consent_id
            """
        ).fetchall()


# --- retention --------------------------------------------------------------------------------------------------------


def keep_revocations(connection: Connection, batch_id: int) -> int:
    """Keep what the feed revoked in a batch that is about to be deleted, so that nothing revives it. Returns how many.

    Call it in the transaction that deletes the batch.
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
        where said._batch_id = %s and said.status = 'revoked'
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
    lost = [since for number, since, *_ in suspended() if number == consent_id]
    if lost:
        found["suspended"] = f"since {min(lost):%Y-%m-%d %H:%M:%S}, see `sampan consent suspended`"
    if revoked:
        found["revoked_here"] = (
            f"by {revoked['revoked_by']} at {revoked['revoked_at']:%Y-%m-%d %H:%M:%S}: {revoked['reason']}"
        )
    return found
