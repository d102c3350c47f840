"""The roles of the platform, of the partners' stewards and of readers: what they may do, and how much they may use."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import psycopg
from psycopg import sql

from sampan.contracts.model import Contract
from sampan.contracts.registry import all_contracts
from sampan.database import Connection, one, scalar, scram_verifier
from sampan.settings import ROLES, SEARCH_PATH, settings

# They see the marts of some disclosure classes only (ADR 0033): without enterprises by name or number, and publishable ones.
POLICY_READER, PUBLIC_READER = "policy_reader", "public_reader"
# People who decide what is held, found or asked for: it reads views of the schema `desk` and asks, nothing else.
OPERATOR = "sampan_operator"
# What every bank's role may do: connect and use the desk. A new bank becomes a member, so that publish needs no row of the
# database, which any login may keep from it.
BANKS = "sampan_bank"
# Roles that people read with, besides the reader of BI tools.
READER_ROLES = f"^(steward_[a-z0-9_]+|bank_b[0-9]{{3}}|{POLICY_READER}|{PUBLIC_READER}|{OPERATOR})$"
# Sessions at the same time: of the login that BI tools share, and of a person's.
BI_SESSIONS, PERSON_SESSIONS = 30, 10
# A session may lift the timeouts for itself, but not what only a superuser may set: the limit of temporary files, and what is
# logged of it. A statement of 1 GB that takes 5 seconds would be in the server's log, with the names that it looks for.
OF_SUPERUSER = ("temp_file_limit", "log_min_messages")
READER_SETTINGS = {
    "search_path": SEARCH_PATH.replace(",", ", "),
    "statement_timeout": "'15min'",
    "idle_in_transaction_session_timeout": "'10min'",
    "idle_session_timeout": "'12h'",
    "temp_file_limit": "'4GB'",
    "log_min_messages": "'fatal'",
}


def ensure_role(admin: Connection, name: str, password: str | None) -> None:
    """Create a role if it is missing; with a password it can log in."""
    role = sql.Identifier(name)
    if not admin.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone():
        admin.execute(sql.SQL("create role {}").format(role))
    if password is not None:
        verifier = sql.Literal(scram_verifier(admin, name, password))
        admin.execute(sql.SQL("alter role {} login password {}").format(role, verifier))
    admin.execute(sql.SQL("grant {} to current_user").format(role))


def end_writers(admin: Connection) -> int:
    """End the sessions of readers whose open transaction wrote. Returns how many.

    All that a reader can write is its own login's settings, and a GRANT that changes nothing: until its transaction ends,
    no one else changes the row of the login, or of the database or schema that it named.
    """
    logins = [*reader_logins(admin), ROLES["bi"]]
    found = admin.execute(
        """
        select distinct usename, pid from pg_locks join pg_stat_activity using (pid)
        where locktype = 'transactionid' and mode = 'ExclusiveLock' and granted and usename = any(%s)
        """,
        [logins],
    ).fetchall()
    ended = 0
    for login, pid in found:
        # Its rights are needed to end a session of it, and kept for this transaction only. A superuser's login stays.
        with suppress(psycopg.errors.InsufficientPrivilege), admin.transaction(force_rollback=True):
            admin.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(login)))
            ended += scalar(admin, "select pg_terminate_backend(%s, 5000)", [pid])
    return ended


def create_roles(admin: Connection) -> None:
    """Create the roles of the platform, of readers, and a steward for every partner, and set who may connect."""
    for key, name in ROLES.items():
        ensure_role(admin, name, settings().get(f"SAMPAN_{key.upper()}_PASSWORD"))
    readers = [
        POLICY_READER,
        PUBLIC_READER,
        OPERATOR,
        BANKS,
        *sorted({_steward(contract) for contract in all_contracts().values()}),
    ]
    for reader in readers:
        ensure_role(admin, reader, None)
    database = sql.Identifier(admin.info.dbname)
    admin.execute(sql.SQL("revoke all on database {} from public").format(database))
    roles = sql.SQL(", ").join(map(sql.Identifier, [*ROLES.values(), *readers]))
    admin.execute(sql.SQL("grant connect on database {} to {}").format(database, roles))
    builders = sql.SQL("sampan_builder, sampan_loader")
    # A report reads with their rights, and not by a login that readers share and can change or use up.
    readers_of_reports = sql.SQL(", ").join(map(sql.Identifier, (ROLES["bi"], POLICY_READER)))
    admin.execute(sql.SQL("grant {} to sampan_builder with inherit false, set true").format(readers_of_reports))
    admin.execute(sql.SQL("grant create, temporary on database {} to {}").format(database, builders))
    # Where a superuser has taken it from public.
    _attempt(admin, [sql.SQL("grant usage on language plpgsql to {}").format(builders)])
    # Also for logins that somebody makes by hand.
    admin.execute(sql.SQL("alter database {} set search_path to {}").format(database, sql.SQL(SEARCH_PATH)))


def limit_roles(admin: Connection) -> list[str]:
    """Set the limits of every login that reads, and undo what a login has set for itself. Returns what was refused."""
    path = {"search_path": READER_SETTINGS["search_path"]}
    refused = [item for key in ("loader", "builder") for item in configure_login(admin, ROLES[key], -1, path)]
    refused += configure_login(admin, ROLES["bi"], BI_SESSIONS)
    for login in reader_logins(admin):
        refused += configure_login(admin, login, PERSON_SESSIONS)
    _attempt(admin, [sql.SQL("grant pg_use_reserved_connections to sampan_loader, sampan_builder")])
    return refused


def configure_login(
    admin: Connection, login: str, sessions: int, values: dict[str, str] = READER_SETTINGS
) -> list[str]:
    """Give a login its limit of sessions (-1 for none) and its settings, instead of any it has. Returns what was refused."""
    role = sql.Identifier(login)
    denied = [name for name in OF_SUPERUSER if not scalar(admin, "select has_parameter_privilege(%s, 'set')", [name])]
    values = {name: value for name, value in values.items() if name not in denied}
    return _attempt(
        admin,
        [
            sql.SQL("alter role {} reset all").format(role),
            sql.SQL("alter role {} in database {} reset all").format(role, sql.Identifier(admin.info.dbname)),
            sql.SQL("alter role {} connection limit {}").format(role, sql.Literal(sessions)),
            *(
                sql.SQL("alter role {} set {} to {}").format(role, sql.Identifier(name), sql.SQL(value))
                for name, value in values.items()
            ),
        ],
    )


def reader_logins(admin: Connection, also_disabled: bool = False) -> list[str]:
    """The logins of people: members of a role that reads, however they were made; with those that may not log in now."""
    rows = admin.execute(
        """
        select login.rolname
        from pg_roles as login
        where (login.rolcanlogin or %(disabled)s) and not login.rolsuper and not login.rolcreaterole
            and login.rolname <> all(%(platform)s)
            and exists (
                select from pg_roles as reader
                where (reader.rolname = %(bi)s or reader.rolname ~ %(others)s)
                    and pg_has_role(login.oid, reader.oid, 'member')
            )
        order by 1
        """,
        {"bi": ROLES["bi"], "platform": [*ROLES.values()], "others": READER_ROLES, "disabled": also_disabled},
    ).fetchall()
    return [name for (name,) in rows]


def open_doors(admin: Connection) -> list[str]:
    """What readers could still do to the platform, because only a superuser can forbid it; empty when he has."""
    functions = admin.execute(
        """
        select distinct proname from pg_proc
        where pronamespace = 'pg_catalog'::regnamespace and has_function_privilege('public', oid, 'execute')
            and proname in (
                'lo_create', 'pg_advisory_lock', 'pg_export_snapshot', 'pg_logical_emit_message', 'pg_partition_tree',
                'pg_stat_get_live_tuples'
            )
        order by 1
        """
    ).fetchall()
    databases = admin.execute(
        """
        select datname from pg_database
        where datallowconn and (
            has_database_privilege('public', oid, 'connect') or has_database_privilege('public', oid, 'temporary')
        )
        order by 1
        """
    ).fetchall()
    files, logged, reserved, code, refused = one(
        admin,
        """
        select
            has_parameter_privilege('temp_file_limit', 'set'),
            not has_parameter_privilege('log_min_messages', 'set')
                and (current_setting('log_min_duration_statement') <> '-1' or current_setting('log_statement') = 'all'),
            current_setting('reserved_connections')::int > 0
                and pg_has_role('sampan_loader', 'pg_use_reserved_connections', 'usage'),
            has_language_privilege('public', 'plpgsql', 'usage'),
            exists (select from pg_event_trigger where evtname = 'refuse_grants_of_readers' and evtenabled <> 'D'
                and 'ALTER DEFAULT PRIVILEGES' = any(evttags))
        """,
    )
    found = {
        f"any login may call {', '.join(name for (name,) in functions)} and functions like them": bool(functions),
        f"any login may connect to, or make temporary tables in, {', '.join(name for (name,) in databases)}": bool(
            databases
        ),
        "a reader's temporary files have no limit": not files,
        "statements of readers, of any size and with what they look for, are in the server's log": logged,
        "any login may run code (DO), whose loops keep rows past a transaction": code,
        "any login may hold up a release, by GRANT or DROP OWNED in a transaction that it leaves open, and fill the"
        " server's table of locks by ALTER DEFAULT PRIVILEGES": not refused,
        "no connections are reserved for the loader and the builder (reserved_connections)": not reserved,
    }
    return [text for text, is_open in found.items() if is_open]


def steward_grants(contract: Contract) -> list[sql.Composed]:
    """Statements that let the steward of a partner read the partner's own rejected rows, without pseudonyms."""
    steward = sql.Identifier(_steward(contract))
    return [
        sql.SQL("grant usage on schema quarantine to {}").format(steward),
        sql.SQL("revoke all on {} from {}").format(sql.Identifier("quarantine", contract.feed), steward),
        sql.SQL("grant select on {} to {}").format(sql.Identifier("quarantine", f"{contract.feed}__rows"), steward),
    ]


def _attempt(admin: Connection, statements: Iterable[sql.SQL | sql.Composed]) -> list[str]:
    """Run each statement. Returns those that this role may not run: on a server of others, not all of them are allowed."""
    refused = []
    for statement in statements:
        try:
            with admin.transaction():
                admin.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            refused.append(statement.as_string())
    return refused


def _steward(contract: Contract) -> str:
    return f"steward_{contract.partner}"
