"""The roles of the platform and of the partners' stewards, and what they may do."""

from __future__ import annotations

import psycopg
from psycopg import sql

from sampan.contracts.registry import all_contracts
from sampan.settings import ROLES, settings


def ensure_role(admin: psycopg.Connection, name: str, password: str | None) -> None:
    """Create a role that is missing; with a password it may log in."""
    if not admin.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone():
        admin.execute(sql.SQL("create role {}").format(sql.Identifier(name)))
    if password is not None:
        admin.execute(sql.SQL("alter role {} login password {}").format(sql.Identifier(name), sql.Literal(password)))
    admin.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(name)))


def create_roles(admin: psycopg.Connection) -> None:
    """The roles of the platform and of every partner's steward, and who may connect."""
    for key, name in ROLES.items():
        ensure_role(admin, name, settings().get(f"SAMPAN_{key.upper()}_PASSWORD"))
    stewards = sorted({f"steward_{contract.partner}" for contract in all_contracts().values()})
    for steward in stewards:
        ensure_role(admin, steward, None)
    database = sql.Identifier(admin.info.dbname)
    admin.execute(sql.SQL("revoke all on database {} from public").format(database))
    roles = sql.SQL(", ").join(map(sql.Identifier, [*ROLES.values(), *stewards]))
    admin.execute(sql.SQL("grant connect on database {} to {}").format(database, roles))
    builders = sql.SQL("sampan_builder, sampan_loader")
    admin.execute(sql.SQL("grant create, temporary on database {} to {}").format(database, builders))


def grant_stewards(admin: psycopg.Connection) -> None:
    """Let the steward of each partner read its own rejected rows."""
    admin.execute("set local role sampan_loader")
    for contract in all_contracts().values():
        steward = sql.Identifier(f"steward_{contract.partner}")
        admin.execute(sql.SQL("grant usage on schema quarantine to {}").format(steward))
        tables = sql.SQL(", ").join(
            sql.Identifier("quarantine", name) for name in (contract.feed, f"{contract.feed}__rows")
        )
        admin.execute(sql.SQL("grant select on {} to {}").format(tables, steward))
    admin.execute("reset role")
