"""The roles of the platform and of the partners' stewards, and what they may do."""

from __future__ import annotations

from psycopg import sql

from sampan.contracts.model import Contract
from sampan.contracts.registry import all_contracts
from sampan.database import Connection
from sampan.settings import ROLES, settings


def ensure_role(admin: Connection, name: str, password: str | None) -> None:
    """Create a role if it is missing; with a password it can log in."""
    if not admin.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone():
        admin.execute(sql.SQL("create role {}").format(sql.Identifier(name)))
    if password is not None:
        admin.execute(sql.SQL("alter role {} login password {}").format(sql.Identifier(name), sql.Literal(password)))
    admin.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(name)))


def create_roles(admin: Connection) -> None:
    """Create the roles of the platform and a steward for every partner, and set who may connect."""
    for key, name in ROLES.items():
        ensure_role(admin, name, settings().get(f"SAMPAN_{key.upper()}_PASSWORD"))
    stewards = sorted({_steward(contract) for contract in all_contracts().values()})
    for steward in stewards:
        ensure_role(admin, steward, None)
    database = sql.Identifier(admin.info.dbname)
    admin.execute(sql.SQL("revoke all on database {} from public").format(database))
    roles = sql.SQL(", ").join(map(sql.Identifier, [*ROLES.values(), *stewards]))
    admin.execute(sql.SQL("grant connect on database {} to {}").format(database, roles))
    builders = sql.SQL("sampan_builder, sampan_loader")
    admin.execute(sql.SQL("grant create, temporary on database {} to {}").format(database, builders))


def steward_grants(contract: Contract) -> list[sql.Composed]:
    """Statements that let the steward of a partner read the partner's own rejected rows, without pseudonyms."""
    steward = sql.Identifier(_steward(contract))
    return [
        sql.SQL("grant usage on schema quarantine to {}").format(steward),
        sql.SQL("revoke all on {} from {}").format(sql.Identifier("quarantine", contract.feed), steward),
        sql.SQL("grant select on {} to {}").format(sql.Identifier("quarantine", f"{contract.feed}__rows"), steward),
    ]


def _steward(contract: Contract) -> str:
    return f"steward_{contract.partner}"
