"""The keys of the pseudonyms that a warehouse was filled with: another key gives each person a second pseudonym."""

from __future__ import annotations

import hmac

from sampan.contracts.registry import all_contracts
from sampan.database import Connection, scalar
from sampan.errors import Code, Problem, SettingsFailure
from sampan.settings import settings

CHECKED = b"check value of a key of pseudonyms"


def check(connection: Connection) -> None:
    """Compare the keys of the settings with those that this warehouse knows, by a check value of each version.

    A version that is new is entered. Raises SettingsFailure when a key is another one than its version had before, or when
    an older key is missing while a delivery loaded under it is still there. Safe in several processes at once.
    """
    held = {version: hmac.digest(key, CHECKED, "sha256").hex() for version, key in settings().pseudonym_keys.items()}
    query = "select version, check_value from ops.pseudonym_key"
    known = dict(connection.execute(query).fetchall())
    if held.keys() - known.keys():
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into ops.pseudonym_key (version, check_value) values (%s, %s) on conflict do nothing",
                sorted(held.items()),
            )
        known = dict(connection.execute(query).fetchall())
    current = settings().pseudonym_key_version
    for version in sorted(held):
        if held[version] != known[version]:
            name = "SAMPAN_PSEUDONYM_KEY" if version == current else f"SAMPAN_PSEUDONYM_KEY_{version}"
            raise _refused(
                f"{name} is not the key that this warehouse knows as version {version}: each person would get a second"
                " pseudonym. Set the former key again, or give the new one a new version"
            )
    # The lowest version that is held is the one that later pseudonyms are joined with.
    lower = [version for version in known if version < min(held)]
    if lower and _is_needed(connection, max(lower)):
        raise _refused(
            f"SAMPAN_PSEUDONYM_KEY_{max(lower)} is not set, and deliveries loaded under this version are still there:"
            " their persons would get a second pseudonym. Set it until their retention is over"
        )


def _is_needed(connection: Connection, version: int) -> bool:
    """Whether a delivery with pseudonyms that was loaded before the next version of the key is still there."""
    feeds = [
        contract.feed
        for contract in all_contracts().values()
        if any(column.personal == "pseudonymise" for column in contract.columns)
    ]
    query = """
        select exists (
            select from ops.batch
            where feed = any(%s) and state in ('published', 'withdrawn') and deleted_at is null
                and loaded_at < (select min(known_since) from ops.pseudonym_key where version > %s)
        )
    """
    return bool(scalar(connection, query, [feeds, version]))


def _refused(message: str) -> SettingsFailure:
    return SettingsFailure(Problem(Code.SETTINGS_PSEUDONYM_KEY, f"{message} (docs/security.md, Rotate a key)"))
