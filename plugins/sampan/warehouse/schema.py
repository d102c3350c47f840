"""`sampan init`: bring a database to what this version of the platform needs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import psycopg
from packaging.version import Version
from psycopg import sql

from sampan import __version__, failpoints
from sampan.contracts.model import Contract
from sampan.contracts.registry import all_contracts
from sampan.contracts.validate import check_all
from sampan.database import Connection, connect, lock, scalar
from sampan.errors import Code, PermanentFailure, Problem, TransientFailure
from sampan.reading.shown import shown_uri
from sampan.settings import HOME, settings
from sampan.warehouse import pseudonym_keys
from sampan.warehouse.calendars import fill_calendars
from sampan.warehouse.feed_tables import create_feed_tables, feed_statements, rule_statements
from sampan.warehouse.roles import create_roles, end_writers, limit_roles, open_doors, steward_grants

SCRIPTS = HOME / "infra" / "postgres"
# What only a superuser may do.
SERVER = SCRIPTS / "server" / "10_limits.superuser.sql"
FOLDERS = ("before_feeds", "after_feeds")
# Schemas that the builder, who may make schemas, could have made first in a warehouse that lacks them.
OWNERS = {
    "sampan_loader": ("ops", "intake", "raw", "quarantine", "desk", "loader_lock"),
    "sampan_builder": ("staging", "intermediate", "marts", "builder_lock"),
}
# The first with `grant ... with inherit false, set true`.
OLDEST_SERVER = 16
# How long `init` waits for each table, how often it tries, and how long it pauses in between.
LOCK_TIMEOUT, TRIES, PAUSE_SECONDS = "2s", 4, 3.0


def apply_schema(force: bool = False, by: str = "platform") -> list[str]:
    """Bring the warehouse to what this version of the platform needs. Safe to run again, and twice at the same time.

    The administrator makes roles and schemas; everything in them is made by the role that owns it, in a session of its own:
    code that somebody put there never runs as the administrator. A run that dies in between is finished by the next.

    Tables and views are touched only when a statement that defines them has changed, or with `force`. `ops.schema_version`
    keeps which version did so, when, and that it was run `by` whom. Sessions of readers that keep a row of the catalogue
    from it are ended. Returns what readers could still do because this administrator may not forbid it. Raises
    TransientFailure, which names the sessions in the way, when a lock is not acquired after a few tries, and
    PermanentFailure when a later version made the warehouse what it is, or the server or the database does not fit.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            return _bring_up_to_date(force, by)
        except TransientFailure as error:
            if not isinstance(error.__cause__, (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)):
                raise
            if not tries_left:
                raise TransientFailure(f"could not lock the warehouse's tables: {_blockers()}") from error
        with connect("admin") as admin:
            end_writers(admin)
        # Readers that queue behind a lock request of `init` run during the pause.
        time.sleep(PAUSE_SECONDS)
    raise AssertionError("the last try returns or raises")


def _bring_up_to_date(force: bool, by: str) -> list[str]:
    # Asked as the loader, whose table it is: what it planted there must not run as the administrator (ADR 0025). On a new
    # server it cannot log in yet, and there is nothing to refuse; the session below asks again.
    try:
        with connect("loader") as loader:
            version = _applied(loader)[1]
    except PermanentFailure:
        version = None
    _refuse_later(version)
    with connect("admin") as admin:
        _refuse_server(admin)
    with connect("admin") as admin, suppress(psycopg.errors.UniqueViolation, psycopg.errors.DuplicateSchema):
        admin.execute("create schema if not exists admin_lock")
    with connect("admin") as admin:
        _refuse_schemas_of_others(admin)
    with lock("admin", "init", "another `sampan init` is at work"):
        with connect("admin", autocommit=False) as admin:
            _limit_waiting(admin)
            create_roles(admin)
            failpoints.hit("init.after_roles")
            for folder in FOLDERS:
                _apply(admin, folder, "admin")
            gaps = limit_roles(admin) + open_doors(admin)
        failpoints.hit("init.after_admin")
        with connect("builder", autocommit=False) as builder:
            _limit_waiting(builder)
            for folder in FOLDERS:
                _apply(builder, folder, "builder")
        failpoints.hit("init.after_builder")
        with connect("loader", autocommit=False) as loader:
            _limit_waiting(loader)
            now = (schema_digest(), __version__)
            digest, version = _applied(loader)
            _refuse_later(version)
            if force or digest != now[0]:
                _refuse_unsound_contracts()
                _apply_all(loader)
            if (digest, version) != now:
                loader.execute(
                    "insert into ops.schema_version (digest, version, applied_by) values (%s, %s, %s)", [*now, by]
                )
            fill_calendars(loader)
            # Where loading is done elsewhere, `init` may run without the key.
            if "SAMPAN_PSEUDONYM_KEY" in settings().values:
                pseudonym_keys.check(loader)
            failpoints.hit("init.before_commit")
        failpoints.hit("init.after_commit")
    return gaps


def _refuse_server(admin: Connection) -> None:
    """Raise PermanentFailure when the platform cannot work on this server, or with this database's encoding."""
    version, encoding = admin.info.server_version // 10_000, admin.info.parameter_status("server_encoding")
    if version < OLDEST_SERVER:
        message = f"this server is PostgreSQL {version}; Sampan needs {OLDEST_SERVER} or later; nothing was changed"
        raise PermanentFailure(Problem(Code.WAREHOUSE_SERVER, message))
    if encoding != "UTF8":
        message = f"database {admin.info.dbname} has the encoding {encoding}; Sampan needs UTF8; nothing was changed"
        raise PermanentFailure(Problem(Code.WAREHOUSE_SERVER, message))


def _refuse_schemas_of_others(admin: Connection) -> None:
    """Raise PermanentFailure when a schema of the platform is not its owner's, who could drop or replace what is in it."""
    owners = {schema: owner for owner, schemas in OWNERS.items() for schema in schemas}
    owners["admin_lock"] = scalar(admin, "select current_user")
    found = admin.execute(
        "select nspname, pg_get_userbyid(nspowner) from pg_namespace where nspname = any(%s) order by 1", [list(owners)]
    ).fetchall()
    for name, owner in found:
        if owner != owners[name]:
            message = f"schema {name} belongs to {owner}, not to {owners[name]}; nothing was changed"
            raise PermanentFailure(Problem(Code.WAREHOUSE_SCHEMA_OWNER, message))


def _refuse_later(version: str | None) -> None:
    """Raise PermanentFailure when a later version of the platform made the warehouse what it is.

    The scripts bring any earlier warehouse to what they say, never a later one: functions of both would be mixed.
    """
    if version is not None and Version(version) > Version(__version__):
        message = (
            f"version {version} made this warehouse what it is, and this is {__version__}. Install {version}, or"
            f" restore the warehouse to before it was upgraded (docs/runbook.md)"
        )
        raise PermanentFailure(Problem(Code.WAREHOUSE_LATER, message))


def _limit_waiting(connection: Connection) -> None:
    connection.execute(sql.SQL("set local lock_timeout to {}").format(sql.Literal(LOCK_TIMEOUT)))


def _refuse_unsound_contracts() -> None:
    """Raise PermanentFailure when a contract has errors: what it says becomes SQL of the loader."""
    problems = check_all()
    if problems:
        message = "\n".join(["nothing was changed, contracts have errors:", *map(str, problems)])
        raise PermanentFailure(Problem(Code.CONTRACT_INVALID, message))


def schema_digest() -> str:
    """SHA-256 of the statements that define schemas, tables and grants, without comments and layout."""
    digest = sha256()
    for folder in FOLDERS:
        for script in _scripts(folder):
            digest.update(f"{folder}/{script.name}\n{_normalised(script.read_text())}\n".encode())
    for contract in all_contracts().values():
        for statement in (*feed_statements(contract), *rule_statements(contract), *steward_grants(contract)):
            digest.update(f"{_normalised(statement.as_string())}\n".encode())
    return digest.hexdigest()


def _normalised(script: str) -> str:
    """A script without its comments, and with one space for each run of white space outside quotes."""
    return re.sub(r"""('(?:[^']|'')*'|"[^"]*")|(?:--[^\n]*|\s+)+""", lambda match: match[1] or " ", script)


def _scripts(folder: str) -> Iterator[Path]:
    yield from sorted((SCRIPTS / folder).glob("*.sql"))


def _applied(connection: Connection) -> tuple[str | None, str | None]:
    """Digest and version that are in force; None for what is not known: of a new warehouse, and of versions before 0.2.0."""
    has_version = """
        select count(*) from pg_attribute
        where attrelid = to_regclass('ops.schema_version') and attname in ('digest', 'version')
    """
    if scalar(connection, has_version) < 2:
        return None, None
    row = connection.execute(
        "select digest, version from ops.schema_version order by applied_at desc limit 1"
    ).fetchone()
    return row or (None, None)


def _blockers() -> str:
    """The sessions that hold locks on the platform's tables, and on which."""
    with connect("admin") as admin:
        found = admin.execute(
            """
            select a.pid, a.usename, a.application_name, string_agg(distinct l.relation::regclass::text, ', ')
            from pg_locks as l
            join pg_stat_activity as a using (pid)
            join pg_class as c on c.oid = l.relation
            join pg_namespace as n on n.oid = c.relnamespace
            where l.granted
                and l.database = (select oid from pg_database where datname = current_database())
                and l.pid <> pg_backend_pid()
                and n.nspname in ('ops', 'raw', 'quarantine', 'desk', 'admin_lock')
                and c.relkind <> 'i'
            group by 1, 2, 3
            order by 1
            """
        ).fetchall()
    sessions = [
        f"session {pid} of {role} ({program or 'no name'}) uses {tables}" for pid, role, program, tables in found
    ]
    return "; ".join(sessions) or "the session that held the lock has ended; run `sampan init` again"


def _apply_all(loader: Connection) -> None:
    _apply(loader, "before_feeds", "loader")
    failpoints.hit("init.after_ops")
    for contract in all_contracts().values():
        create_feed_tables(loader, contract)
        _clean_file_names(loader, contract)
    failpoints.hit("init.after_feeds")
    _apply(loader, "after_feeds", "loader")
    for contract in all_contracts().values():
        for grant in steward_grants(contract):
            loader.execute(grant)


def _clean_file_names(connection: Connection, contract: Contract) -> None:
    """Replace personal numbers in names of files, which earlier versions entered as they came."""
    rows = connection.execute(
        "select batch_id, source_uri from ops.batch where feed = %s and origin = 'delivery' and deleted_at is null",
        [contract.feed],
    ).fetchall()
    names = [(shown_uri(contract, uri), batch_id, uri) for batch_id, uri in rows]
    with connection.cursor() as cursor:
        cursor.executemany(
            "update ops.batch set source_uri = %s, problem = problem - 'file' where batch_id = %s",
            [(name, batch_id) for name, batch_id, uri in names if name != uri],
        )


def _apply(connection: Connection, folder: str, role: str) -> None:
    """Run the scripts of a folder that have this role in their names: `<number>_<subject>.<role>.sql`."""
    for script in _scripts(folder):
        if script.name.split(".")[-2] == role:
            connection.execute(script.read_bytes())
