"""Roles do not climb, and no reader stops the platform: attacks by each login, with the rights that it really has."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from datetime import date
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sampan import database
from sampan.errors import TransientFailure
from sampan.governance import compaction, retention
from sampan.identity import resolve
from sampan.marts import build, release
from sampan.settings import settings
from sampan.warehouse import schema as warehouse

from infra.local import postgres as local
from infra.local.postgres import EmbeddedPostgres, binaries
from tests import forked
from tests.conftest import QUICK, ROOT, Sampan, memory, template_on
from tests.factory import Partner, rows

FEED = "customs_declarations"
DAY = date(2026, 7, 6)
BANK = "bank_b014"
READERS = ("bi_reader", "policy_reader", "public_reader", "steward_customs", BANK)
# ADR 0025.
BI_SESSIONS, PERSON_SESSIONS = 30, 10


def role_dsn(role: str, **parts: str) -> str:
    """Connection string of a role of the platform or, for a bank or a steward, of a new login that has the role."""
    keys = {"sampan_admin": "admin", "sampan_loader": "loader", "sampan_builder": "builder", "bi_reader": "bi"}
    if role in keys:
        return make_conninfo(settings().dsn(keys[role]), **{"options": "", **parts})
    login, password = f"teller_{secrets.token_hex(4)}", secrets.token_hex(16)
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as loader:
        loader.execute("select ops.ensure_bank_role('B014')")
    with psycopg.connect(settings().dsn("admin"), autocommit=True) as admin:
        admin.execute(sql.SQL("create role {} login password {}").format(sql.Identifier(login), sql.Literal(password)))
        admin.execute(sql.SQL("grant {} to {}").format(sql.Identifier(role), sql.Identifier(login)))
        grant = sql.SQL("grant connect on database {} to {}")
        admin.execute(grant.format(sql.Identifier(admin.info.dbname), sql.Identifier(role)))
    return make_conninfo(settings().dsn("admin"), **{"user": login, "password": password, "options": "", **parts})


@pytest.fixture(scope="session")
def foreign_server() -> Iterator[EmbeddedPostgres]:
    """A server as others run it: no one has closed what only a superuser can close, and it logs errors."""
    tuning = QUICK | {"reserved_connections": "0", "log_min_messages": "warning", "log_min_error_statement": "error"}
    prefix = "sampan-foreign-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=memory(), ignore_cleanup_errors=True) as folder:
        server = EmbeddedPostgres(Path(folder) / "data", durable=False, tuning=tuning)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local, "LIMITS", Path("/nonexistent"), raising=False)
            server.start()
        yield server
        server.stop()


@pytest.fixture
def foreign(
    foreign_server: EmbeddedPostgres, secrets_of_session: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A warehouse on that server, in the environment of this test."""
    with template_on(foreign_server.dsn(), secrets_of_session) as name:
        for key, value in secrets_of_session.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setenv("SAMPAN_WAREHOUSE_DSN", make_conninfo(foreign_server.dsn(), dbname=name))
        settings.cache_clear()
        yield name
    settings.cache_clear()


# --- locks (H3) -------------------------------------------------------------------------------------------------------

LOCKS = (
    *(
        f"select {function}(hashtext('{key}'))"
        for function in ("pg_advisory_lock", "pg_advisory_lock_shared")
        for key in ("sampan.build", "sampan.retention", "sampan.init", "sampan.consent", "sampan.identity")
    ),
    "lock table builder_lock.build in access share mode",
    "lock table loader_lock.maintenance in access share mode",
    "lock table admin_lock.init in access share mode",
    "lock table ops.consent_batch in access share mode",
    "lock table ops.identity_link in access share mode",
    "select from ops.consent_batch for key share",
)


def hold_every_lock(role: str) -> psycopg.Connection:
    """A session of a reader that took every lock that it could and keeps it."""
    return keep_open(role, LOCKS)


def keep_open(role: str, statements: Iterable[str]) -> psycopg.Connection:
    """A session of a reader whose open transaction ran what it may of the statements, `{database}` being the one it is in."""
    session = psycopg.connect(role_dsn(role), autocommit=True)
    session.execute("begin")
    for statement in statements:
        # Not allowed, or no such table.
        with suppress(psycopg.ProgrammingError), session.transaction():
            session.execute(statement.format(database=session.info.dbname))
    return session


def everything_that_locks() -> None:
    with build.lock():
        pass
    assert build.run(build.names()[0])["nodes"] == 0
    retention.run(DAY)
    compaction.compact(DAY)
    resolve.run()
    assert release.run()["release_no"] == 0
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as loader:
        loader.execute("set statement_timeout to '5s'")
        loader.execute("select ops.take_in_consents()")
    warehouse.apply_schema()


@pytest.fixture
def quick_init(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse, "PAUSE_SECONDS", 0.1)


@pytest.mark.parametrize("role", READERS)
def test_no_reader_stops_a_step_when_it_holds_every_lock_it_can_take(role, sampan, quick_init):
    """Locks that any login may take stop revocations, retention, builds and init for as long as its session lives."""
    with hold_every_lock(role):
        everything_that_locks()


@pytest.mark.parametrize("role", READERS)
def test_no_reader_stops_a_step_on_a_server_that_leaves_advisory_locks_to_all(role, foreign, quick_init, tmp_path):
    """The same where no superuser has revoked the functions: the platform's locks do not rest on that."""
    with hold_every_lock(role) as session:
        held = session.execute("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()")
        assert held.fetchall() == [(10,)]
        with build.lock():
            pass
        with retention.maintenance_lock():
            pass
        with psycopg.connect(settings().dsn("loader"), autocommit=True) as loader:
            loader.execute("set statement_timeout to '5s'")
            loader.execute("select ops.take_in_consents()")
        warehouse.apply_schema()


# A GRANT of who may give nothing changes nothing, and keeps the row of what it names until its transaction ends.
KEPT = (
    "grant usage on schema marts to public",
    "revoke usage on schema desk from public",
    "grant execute on function desk.ask(text, jsonb, text) to public",
    "grant connect on database {database} to public",
    "alter default privileges grant select on tables to public",
    "alter default privileges in schema marts grant select on tables to public",
    "alter role current_user set work_mem to '4MB'",
)


def keep_rows(role: str) -> psycopg.Connection:
    """A session of a reader that keeps every row of the catalogue that it can in an open transaction."""
    own = ["alter role bi_reader password null"] if role == "bi_reader" else []
    # It takes away rights as REVOKE does, on all that its role may use.
    own += [f"drop owned by {role}", "drop owned by sampan_bank", f"reassign owned by {role} to {role}"]
    return keep_open(role, (*KEPT, *own))


@pytest.fixture
def bank_of_a_feed() -> Iterator[str]:
    """A bank that no consent has named yet."""
    yield "B997"
    with psycopg.connect(settings().dsn("admin"), autocommit=True) as admin:
        admin.execute("drop role if exists bank_b997")


@pytest.mark.parametrize("role", READERS)
def test_no_reader_stops_a_release_a_new_bank_or_init_when_it_keeps_rows_of_the_catalogue(
    role, sampan, quick_init, bank_of_a_feed
):
    """Fault: a reader's `grant usage on schema marts to public` kept each release from renaming the schema, and one on the
    database kept the consents of a new bank, and the revocations that came with them, from being published."""
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as builder:
        builder.execute("grant usage on schema marts to bi_reader, policy_reader, public_reader")
        with keep_rows(role) as session:
            assert session.execute("select pg_current_xact_id_if_assigned() is not null").fetchall() == [(True,)]
            builder.execute("set lock_timeout to '2s'")
            builder.execute("alter schema marts rename to marts_old; alter schema marts_old rename to marts")
            with psycopg.connect(settings().dsn("loader"), autocommit=True) as loader:
                loader.execute("set lock_timeout to '2s'")
                loader.execute("select ops.ensure_bank_role(%s)", [bank_of_a_feed])
            bank = "select has_database_privilege(r, current_database(), 'connect'), has_schema_privilege(r, 'desk', 'usage')"
            assert sampan.rows(f"{bank} from (values ('bank_b997')) as bank (r)") == [(True, True)]
            warehouse.apply_schema()
            session.close()


SET_FOR_LATER = "alter default privileges in schema release_7 grant select on tables to public"


@pytest.mark.parametrize("role", READERS)
def test_no_reader_fills_the_table_of_locks_with_rows_of_its_own(role, sampan):
    """Fault: each savepoint with a write keeps a lock, and ALTER DEFAULT PRIVILEGES gave each session rows that no other one
    waited for: 28 sessions of one login had filled the table after 8 seconds."""
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as builder:
        builder.execute("create schema release_7")
        builder.execute("alter default privileges in schema release_7 grant select on tables to bi_reader")
    with keep_open(role, ()) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(SET_FOR_LATER)
    # Room for those that are left: a login's settings, one session of it at a time, ever slower.
    assert local.TUNING["max_locks_per_transaction"] == "1024"


def test_a_release_goes_when_a_reader_has_set_rights_of_objects_to_come_in_it(foreign, quick_init):
    """Fault: on a server where no superuser forbids it, that kept the schema for good, after the reader's session, too."""
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as builder:
        builder.execute("create schema release_7; create table release_7.mart (a int); create schema consented_7")
        with psycopg.connect(settings().dsn("bi"), autocommit=True) as reader:
            reader.execute(SET_FOR_LATER)
        kept = "select defaclrole::regrole::text from pg_default_acl where defaclnamespace = 'release_7'::regnamespace"
        assert builder.execute(kept).fetchall() == [("bi_reader",)]
        release.drop_release(builder, 7)
        assert builder.execute("select to_regnamespace('release_7')").fetchall() == [(None,)]


@pytest.mark.parametrize("role", ["bi_reader", BANK])
def test_init_ends_readers_that_keep_rows_of_the_catalogue_from_it(role, foreign, quick_init):
    """The same where no superuser has forbidden them GRANT."""
    with keep_rows(role) as session:
        warehouse.apply_schema(force=True)
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
        session.close()


# Values for the arguments of any function, by type: a table of raw that the caller may not read, and its partition.
ARGUMENTS = {
    "bigint": "1", "boolean": "true", "integer": "1", "name": "'raw'", "regnamespace": "'raw'", "regproc": "'now'",
    "regrole": "'sampan_loader'", "regtype": "'text'", "smallint": "1", "text": "'raw.customs_declarations'",
    "text[]": "'{raw,customs_declarations}'", "tid": "'(0,1)'", "xid8": "'5'",
}  # fmt: skip
# They end the session, or take their time.
NOT_CALLED = ("pg_terminate_backend", "pg_cancel_backend", "pg_sleep", "pg_sleep_for", "pg_sleep_until")


def test_no_function_keeps_a_lock_on_what_its_caller_may_not_read(partner):
    """Some open tables without asking for a right, and keep them: a reader stops retention and new partitions with them."""
    partner.hands_over(FEED, DAY, rows(FEED, 5, DAY))
    partner.ingest(FEED)
    functions = """
        select proname, proargtypes::oid[]::regtype[]::text[] from pg_proc
        where pronamespace = 'pg_catalog'::regnamespace and prokind = 'f' and has_function_privilege(%s, oid, 'execute')
            and not 'internal'::regtype = any(array_append(proargtypes::oid[], prorettype)::regtype[])
            and proname <> all(%s)
    """
    leaf = f"(select inhrelid from pg_inherits where inhparent = 'raw.{FEED}'::regclass limit 1)"
    tables = partner.sampan.rows(f"select 'raw.{FEED}'::regclass::oid, {leaf}")[0]
    held, called = set(), 0
    with psycopg.connect(role_dsn(BANK), autocommit=True) as session:
        for name, types in partner.sampan.rows(functions, BANK, list(NOT_CALLED)):
            for table in tables:
                known = ARGUMENTS | dict.fromkeys(("oid", "regclass"), f"'{table}'")
                if not set(types) <= known.keys():
                    continue
                call = f"{name}({', '.join(f'{known[kind]}::{kind}' for kind in types)})"
                session.execute("begin; set local statement_timeout to '2s'")
                with suppress(psycopg.Error):
                    session.execute(f"select pg_catalog.{call}").fetchmany(1)
                    locks = (
                        "select count(*) from pg_locks where pid = pg_backend_pid() and relation >= 16384"
                        " or pid = pg_backend_pid() and locktype = 'object'"
                    )
                    held |= {call} if session.execute(locks).fetchone() != (0,) else set()
                    called += 1
                session.execute("rollback")
    assert called > 500
    assert held == set()


def test_a_lock_excludes_and_is_shared_as_it_says(sampan):
    with database.lock("builder", "x", "taken", shared=True):
        with database.lock("builder", "x", "taken", shared=True), database.lock("builder", "y", "taken"):
            pass
        with pytest.raises(TransientFailure, match=r"^taken$"), database.lock("builder", "x", "taken"):
            pass
    with database.lock("builder", "x", "taken"):
        for shared in (True, False):
            with pytest.raises(TransientFailure, match="taken"), database.lock("builder", "x", "taken", shared=shared):
                pass
    with database.lock("builder", "x", "taken"), database.lock("loader", "x", "taken"):
        pass


def test_a_lock_holds_back_no_vacuum(sampan):
    """A row lock would have a transaction number, and nothing that is deleted in its time could be vacuumed."""
    with database.lock("builder", "x", "taken"):
        query = "select state, backend_xid, backend_xmin from pg_stat_activity where application_name like '%%_lock'"
        assert sampan.rows(query + " and datname = current_database()", role="admin") == [
            ("idle in transaction", None, None)
        ]


def test_a_lock_is_free_at_once_when_its_process_is_killed(sampan):
    script = (
        "import sys; from sampan.database import lock\nwith lock('builder', 'x', 'taken'):\n"
        "    print('held', flush=True)\n    sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | sampan.environment | {"PYTHONPATH": str(ROOT / "plugins")},
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TransientFailure), database.lock("builder", "x", "taken"):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    for _ in range(20):
        with suppress(TransientFailure), database.lock("builder", "x", "taken"):
            return
        psycopg.connect(settings().dsn("builder")).close()
    pytest.fail("the lock was still held after 20 more sessions")


def test_a_lock_that_was_lost_is_reported(sampan):
    lost = pytest.raises(TransientFailure, match="warehouse: ")
    with lost, database.lock("builder", "x", "taken"):
        sampan.rows(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'sampan_builder_lock'"
            " and datname = current_database()",
            role="builder",
        )


# --- limits (M8, L2, L6) ----------------------------------------------------------------------------------------------

REFUSED = (
    "select lo_from_bytea(0, 'x')",
    "select lo_create(0)",
    "select lo_creat(-1)",
    "select pg_advisory_lock(1)",
    "select pg_try_advisory_xact_lock_shared(1, 2)",
    "select pg_logical_emit_message(false, 'x', 'y')",
    "select pg_export_snapshot()",
    "select pg_get_object_address('schema', '{{raw}}', '{{}}')",
    "create temporary table t (id int)",
    "create table public.t (id int)",
    "create schema s",
    "select n_live_tup from pg_stat_all_tables where relname = 'consent'",
    "select seq_tup_read from pg_stat_xact_user_tables",
    "select heap_blks_hit from pg_statio_user_tables",
    "select pg_stat_get_tuples_inserted('pg_class'::regclass)",
    "grant usage on schema pg_catalog to public",
    "revoke usage on schema pg_catalog from public",
    "grant execute on function pg_catalog.now() to {login}",
    "alter role {login} set temp_file_limit to -1",
    "set temp_file_limit to -1",
    "alter role {login} connection limit -1",
    "alter database {database} set statement_timeout to '1ms'",
)


@pytest.mark.parametrize("role", READERS)
def test_a_reader_may_not_fill_the_disk_nor_see_how_much_is_written(role, sampan):
    """Everything that PostgreSQL lets any login do by default, and no one needs here."""
    with psycopg.connect(role_dsn(role), autocommit=True) as session:
        for statement in REFUSED:
            filled = statement.format(login=session.info.user, database=session.info.dbname)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(filled)


@pytest.mark.parametrize("database_", ["postgres", "template1"])
@pytest.mark.parametrize("role", READERS)
def test_a_reader_connects_to_no_other_database(role, database_, sampan):
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(role_dsn(role, dbname=database_))


def test_no_database_of_the_server_gives_public_anything(sampan):
    query = "select datname from pg_database where datallowconn and has_database_privilege('public', oid, %s)"
    for right in ("connect", "temporary", "create"):
        assert sampan.rows(query, right, role="admin") == []


def test_readers_together_leave_connections_to_loader_builder_and_administrator(sampan):
    """Sessions are the server's: readers who take them all stop the ingest."""
    dsns = [role_dsn(BANK) for _ in range(8)]
    warehouse.apply_schema()
    with ExitStack() as sessions:
        opened = []
        for dsn in [settings().dsn("bi"), *dsns]:
            count = 0
            with suppress(psycopg.OperationalError):
                while count < 200:
                    sessions.enter_context(psycopg.connect(dsn))
                    count += 1
            opened.append(count)
        assert opened[0] == BI_SESSIONS
        assert opened[1] == PERSON_SESSIONS
        assert opened[-1] == 0, "the readers did not fill what they may have"
        for key in ("loader", "builder", "admin"):
            sampan.rows("select 1", role=key)
        with build.lock():
            pass


SETTINGS = "select name, setting from pg_settings where name = any(%s) order by 1"
LIMITS = [
    ("idle_in_transaction_session_timeout", "600000"),
    ("idle_session_timeout", "43200000"),
    ("log_min_messages", "fatal"),
    ("search_path", "pg_catalog, pg_temp"),
    ("statement_timeout", "900000"),
    ("temp_file_limit", "4194304"),
]
LIMITED = [name for name, _ in LIMITS]


@pytest.mark.parametrize("role", READERS)
def test_init_limits_every_login_that_reads_and_mends_what_it_changed(role, sampan, secrets_of_session):
    """A reader that shares a login may change it for all who share it, and a login made by hand has no limits."""
    dsn = role_dsn(role)
    with psycopg.connect(dsn, autocommit=True) as session:
        login = session.info.user
        for statement in (
            "alter role {login} set statement_timeout to '1ms'",
            "alter role {login} in database {database} set statement_timeout to '2ms'",
            "alter role {login} set search_path to information_schema",
            "alter role {login} set default_transaction_read_only to on",
        ):
            session.execute(statement.format(login=login, database=session.info.dbname))
        if role == "bi_reader":
            session.execute("alter role bi_reader password 'mine'")
    warehouse.apply_schema()
    with psycopg.connect(dsn, autocommit=True) as session:
        assert session.execute(SETTINGS, [LIMITED]).fetchall() == LIMITS
        assert session.execute("show default_transaction_read_only").fetchall() == [("off",)]
        limit = session.execute("select rolconnlimit from pg_roles where rolname = current_user").fetchall()
        assert limit == [(BI_SESSIONS if role == "bi_reader" else PERSON_SESSIONS,)]


def test_init_undoes_what_the_loader_and_the_builder_have_set_for_themselves(sampan):
    for key in ("loader", "builder"):
        sampan_role = settings().dsn(key)
        with psycopg.connect(sampan_role, autocommit=True) as session:
            session.execute("alter role current_user set search_path to evil")
    warehouse.apply_schema()
    for key in ("loader", "builder"):
        with psycopg.connect(make_conninfo(settings().dsn(key), options="")) as session:
            assert session.execute("show search_path").fetchall() == [("pg_catalog, pg_temp",)]


def test_tools_of_readers_work(sampan):
    """What is closed must not break what people use: psql describes a mart."""
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as builder:
        builder.execute("create table marts.mart_open as select 1 as id")
        builder.execute("grant usage on schema marts to bi_reader; grant select on marts.mart_open to bi_reader")
    for command in (r"\d marts.mart_open", r"\d+ marts.mart_open", r"\dt marts.*", r"\dn", r"\du", r"\l"):
        done = subprocess.run(
            [str(binaries() / "psql"), role_dsn("bi_reader"), "-v", "ON_ERROR_STOP=1", "-c", command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        assert "mart_open" in done.stdout or command in (r"\dn", r"\du", r"\l")


def test_init_says_what_stays_open_when_the_administrator_may_not_close_it(foreign, foreign_server, tmp_path):
    """A gap that is swallowed is a gap for good: init names each, and the script with which a superuser closes it."""
    environment = {"PYTHONPATH": str(ROOT / "plugins"), "SAMPAN_STATE": str(tmp_path), "COLUMNS": "200"}

    def init() -> str:
        done = forked.run(["init"], os.environ | environment, ROOT, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = init()
    assert "The warehouse is ready." in said
    for gap in (
        "pg_advisory_lock", "lo_create", "postgres, template1", "temporary files have no limit", "reserved",
        "in the server's log", "hold up a release",
    ):  # fmt: skip
        assert gap in said
    assert str(warehouse.SERVER) in said
    superuser = foreign_server.dsn(foreign, local.SUPERUSER)
    subprocess.run(
        [str(binaries() / "psql"), superuser, "-v", "ON_ERROR_STOP=1", "-q", "-f", str(warehouse.SERVER)], check=True
    )
    assert [line for line in init().splitlines() if line.startswith("  ")] == [
        "  no connections are reserved for the loader and the builder (reserved_connections)"
    ]
    # Slow statements are logged, and one of a reader is as large and as slow as it likes.
    with psycopg.connect(superuser, autocommit=True) as session:
        session.execute(
            sql.SQL("alter database {} set log_min_duration_statement to 0").format(sql.Identifier(foreign))
        )
    for key, text in (("bi", "A123456(3) of a reader"), ("loader", "of the platform")):
        with psycopg.connect(settings().dsn(key), autocommit=True) as session:
            session.execute("set debug_print_plan to on")
            session.execute(f"select /* {text} */ 1")
    log = (foreign_server.directory / "server.log").read_text(errors="replace")
    assert "of the platform" in log
    assert "of a reader" not in log


# --- logins (L1, L2) --------------------------------------------------------------------------------------------------


def test_a_person_gets_a_login_reads_with_it_and_loses_it(sampan):
    sampan.rows("select ops.ensure_bank_role('B014')")
    person = f"wong_{secrets.token_hex(3)}"
    made = sampan.cli("roles", "add-login", person, "--role", BANK)
    assert made.returncode == 0, made.stderr
    password = re.search(r"Password: (\S+)", made.stdout)
    assert password is not None
    dsn = make_conninfo(settings().dsn("admin"), user=person, password=password[1], options="")
    with psycopg.connect(dsn, autocommit=True) as session:
        assert session.execute(SETTINGS, [LIMITED]).fetchall() == LIMITS
        assert session.execute("select pg_has_role(%s, 'usage')", [BANK]).fetchall() == [(True,)]
        listed = sampan.cli("roles", "list").stdout
        assert re.search(rf"{person}\t.*{BANK}.*\t{PERSON_SESSIONS}\t1\n", listed)
        dropped = sampan.cli("roles", "drop-login", person)
        assert dropped.returncode == 0, dropped.stderr
        assert "sessions ended: 1" in dropped.stdout
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(dsn)
    assert sampan.cli("roles", "drop-login", person).returncode == 1


def test_a_password_may_be_given_and_is_not_printed(sampan):
    person, password = f"chan_{secrets.token_hex(3)}", secrets.token_hex(16)
    made = sampan.cli("roles", "add-login", person, "--role", "bi_reader", SAMPAN_LOGIN_PASSWORD=password)
    assert (made.returncode, password in made.stdout + made.stderr) == (0, False)
    again = sampan.cli("roles", "add-login", person, "--role", "bi_reader", SAMPAN_LOGIN_PASSWORD="another")
    assert (again.returncode, f"{person} exists" in again.stderr, "Traceback" in again.stderr) == (1, True, False)
    with psycopg.connect(make_conninfo(settings().dsn("admin"), user=person, password=password)):
        pass
    assert sampan.cli("roles", "drop-login", person).returncode == 0


@pytest.mark.parametrize(
    ("login", "role", "code"),
    [
        ("sampan_evil", "bi_reader", "login.name"),
        ("bank_b001", "bi_reader", "login.name"),
        ("pg_person", "bi_reader", "login.name"),
        ('x"; drop role y', "bi_reader", "login.name"),
        ("person_one", "sampan_loader", "login.role"),
        ("person_one", "sampan_admin", "login.role"),
        ("person_one", "pg_read_all_data", "login.role"),
        ("person_one", "bank_b999", "login.role"),
    ],
)
def test_add_login_refuses_names_and_roles_of_the_platform(login, role, code, sampan):
    made = sampan.cli("roles", "add-login", login, "--role", role)
    assert (made.returncode, f"[{code}]" in made.stderr) == (1, True)


def test_drop_login_drops_no_role_of_the_platform(sampan):
    for role in ("sampan_loader", "sampan_builder", "sampan_admin", "bi_reader", "steward_customs", "postgres"):
        done = sampan.cli("roles", "drop-login", role)
        assert (done.returncode, "[login.name]" in done.stderr) == (1, True)


def test_no_statement_has_a_password_in_clear_when_it_fails(foreign, foreign_server, secrets_of_session, quick_init):
    """A statement that fails is written to the server's log, with the password that it sets."""
    with psycopg.connect(settings().dsn("bi")) as reader:
        # Its own row of the catalogue is locked: a statement of `init` fails before it ends this session.
        reader.execute("alter role bi_reader password 'mine'")
        warehouse.apply_schema()
        reader.close()
    log = (foreign_server.directory / "server.log").read_text(errors="replace")
    assert "alter role" in log.lower()
    assert [name for name, value in secrets_of_session.items() if value in log] == []


# --- climbing (H7) ----------------------------------------------------------------------------------------------------

STRENGTH = {"bi_reader": 0, "sampan_builder": 1, "sampan_loader": 2, "sampan_admin": 3}
# Names that sessions resolve without a schema by default: their own role's, and what everybody shares.
SCHEMAS = ("sampan_admin", "sampan_loader", "sampan_builder", "bi_reader", "postgres", "public", "ops", "raw")
SPY = """
create function {schema}.{name}({arguments}) returns {result} language plpgsql as $$ begin
    insert into spied.by_{planter} values (session_user, current_user);
    begin reset role; create role {loot} in role bank_b014; exception when others then null; end;
    return {returned};
end $$
"""
FUNCTIONS = {
    "eq_text": ("text, text", "boolean"),
    "eq_name": ("name, text", "boolean"),
    "lower": ("text", "text"),
    "hashtext": ("text", "integer"),
    "to_regclass": ("text", "regclass"),
    "format": ("text, text", "text"),
    "count": ("bigint", "bigint"),
    "current_setting": ("text, boolean", "text"),
    "now_": ("", "timestamptz"),
    "step": ("bigint[], bigint", "bigint[]"),
    "fired": ("", "trigger"),
    "event": ("", "event_trigger"),
}
OBJECTS = (
    "create operator {schema}.= (leftarg = text, rightarg = text, function = {schema}.eq_text)",
    "create operator {schema}.= (leftarg = name, rightarg = text, function = {schema}.eq_name)",
    # An exact match goes before the polymorphic one of pg_catalog: by this the gate ran planted code.
    "create aggregate {schema}.array_agg(bigint) (sfunc = {schema}.step, stype = bigint[])",
    "create aggregate {schema}.max(bigint) (sfunc = {schema}.step, stype = bigint[])",
    "create domain {schema}.text as pg_catalog.text check ({schema}.lower(value) is null)",
    "create cast (text as regclass) with function {schema}.to_regclass(text) as implicit",
    "create event trigger {name} on ddl_command_end execute function {schema}.event()",
)
TRIGGERS = (
    "create trigger planted before insert or update or delete on {table} for each row execute function {schema}.fired()",
    "create trigger planted_too before truncate on {table} execute function {schema}.fired()",
)
RULE = "create rule planted as on insert to ops.schema_version do also select ops.now_()"


def plant(planter: str) -> int:
    """Plant in every schema, and on every table of `ops`, all that this role is allowed to. Returns how many objects."""
    planted = 0
    short = planter.removeprefix("sampan_")

    def attempt(session: psycopg.Connection, statement: str) -> None:
        nonlocal planted
        with suppress(psycopg.Error), session.transaction():
            session.execute(statement)
            planted += 1

    with psycopg.connect(role_dsn(planter), autocommit=True) as session:
        for schema in SCHEMAS:
            attempt(session, f"create schema {schema}")
            attempt(session, f"grant usage on schema {schema} to public")
            for name, (arguments, result) in FUNCTIONS.items():
                attempt(
                    session,
                    SPY.format(
                        schema=schema,
                        name=name,
                        arguments=arguments,
                        result=result,
                        planter=short,
                        loot=f"loot_{short}",
                        returned="case tg_op when 'DELETE' then old else new end" if result == "trigger" else "null",
                    ),
                )
            for statement in OBJECTS:
                attempt(session, statement.format(schema=schema, name=f"planted_{short}_{schema}"))
        tables = session.execute(
            "select oid::regclass::text from pg_class where relnamespace = any(array['ops', 'quarantine', 'intermediate']"
            "::regnamespace[]) and relkind in ('r', 'p')"
        ).fetchall()
        for (table,) in tables:
            for statement in TRIGGERS:
                for schema in ("ops", "bi_reader"):
                    attempt(session, statement.format(table=table, schema=schema))
        attempt(session, RULE)
    return planted


@pytest.fixture
def spied(sampan: Sampan) -> Callable[[str], list[tuple[str, str]]]:
    """Tables in which planted code notes who runs it. Returns a function that lists them for a planter."""
    sampan.rows("select ops.ensure_bank_role('B014')")
    with psycopg.connect(settings().dsn("admin"), autocommit=True) as admin:
        admin.execute("create schema spied; grant usage on schema spied to public")
        for role in STRENGTH:
            name = f"spied.by_{role.removeprefix('sampan_')}"
            admin.execute(f"create table {name} (session_role text, role text); grant insert on {name} to public")

    def found(planter: str) -> list[tuple[str, str]]:
        return sampan.rows(
            f"select distinct * from spied.by_{planter.removeprefix('sampan_')} order by 1, 2", role="admin"
        )

    return found


def run_everything(partner: Partner) -> None:
    """What the others run: init, an ingest with contradicting rows, a build's first step, retention, and questions."""
    sampan = partner.sampan
    sampan.run("init", "--force")
    given = rows(FEED, 40, DAY)
    partner.hands_over(FEED, DAY, [*given, given[3] | {"value_hkd": "1.00"}])
    commands = (
        ("ingest", FEED), ("status",), ("build", "--step", build.names()[0]), ("retention", "run"), ("retention", "list"),
        ("partitions", "compact"), ("quarantine", "list"), ("roles", "list"), ("release", "list"), ("init",),
    )  # fmt: skip
    for command in commands:
        sampan.run(*command)


# A reader may plant nothing: its case is in the long suite.
@pytest.mark.parametrize(
    "planter", [pytest.param("bi_reader", marks=pytest.mark.slow), "sampan_builder", "sampan_loader"]
)
def test_planted_code_never_runs_as_a_stronger_role(planter, partner, spied):
    """Code of a weaker role that a stronger one runs gives it the stronger one's rights, up to the administrator's."""
    planted = plant(planter)
    assert planted == 0 if planter == "bi_reader" else planted > 20
    run_everything(partner)
    ran = spied(planter)
    assert max((STRENGTH[role] for pair in ran for role in pair), default=0) <= STRENGTH[planter], ran
    assert partner.sampan.rows("select rolname from pg_roles where rolname ~ '^loot_'") == []


def test_init_is_finished_by_the_next_one_when_it_dies_between_its_sessions(sampan, monkeypatch):
    """Roles are made in one transaction and tables in a second: the second one may not happen."""
    sampan.rows("with gone as (delete from ops.schema_version returning 1) select * from gone")
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as loader:
        loader.execute("drop view ops.feed_now")
    with monkeypatch.context() as patch:
        patch.setattr(warehouse, "fill_calendars", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            warehouse.apply_schema()
    assert sampan.one("select to_regclass('ops.feed_now')") is None
    warehouse.apply_schema()
    assert sampan.one("select to_regclass('ops.feed_now') is not null")


@pytest.mark.parametrize(("name", "owner"), [("admin_lock", "sampan_admin"), ("loader_lock", "sampan_loader")])
def test_init_refuses_a_schema_that_another_role_made_first(name, owner, sampan):
    """Fault: a name taken first. The builder may make schemas: one that an older warehouse lacks would be the builder's, and
    with it the locks, which it could drop or give to readers."""
    with psycopg.connect(role_dsn(owner), autocommit=True) as session:
        session.execute(f"drop schema {name} cascade")
    with psycopg.connect(role_dsn("sampan_builder"), autocommit=True) as builder:
        builder.execute(f"create schema {name}; grant all on schema {name} to public")
    done = sampan.cli("init")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"schema {name} belongs to sampan_builder" in done.stderr
