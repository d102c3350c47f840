"""Backups of the embedded PostgreSQL: the way back to a moment between two changes, and their end after their term."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sampan.calendar import HONG_KONG

from infra.local.backup import NAME, Backups
from infra.local.config import StackError
from infra.local.postgres import REPLICA, SUPERUSER, EmbeddedPostgres, server_user
from tests.conftest import ROOT
from tests.integration.infra.test_stack import free_ports

# A value that is nowhere else, as text in a page of a table, in the log and in a copy of either.
FIRST, SECOND = "planted-value-of-the-first", "planted-value-of-the-second"


class Archived:
    """A small server that archives into a folder."""

    def __init__(self, folder: Path) -> None:
        # Hostile to shells and to the server's configuration: a space, a percent sign, a quote.
        self.backups = Backups(folder / "100% of our's")
        self.backups.prepare()
        self.postgres = EmbeddedPostgres(
            folder / "postgres", replica_password="of-the-copies", durable=False, tuning=self.backups.tuning
        )

    def execute(self, *statements: str) -> list[tuple]:
        """Rows of the last statement."""
        with psycopg.connect(self.postgres.dsn("postgres", SUPERUSER), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def moment(self) -> datetime:
        """Now, by the server's clock, with nothing else in the milliseconds around it."""
        time.sleep(0.05)
        ((at,),) = self.execute("select clock_timestamp()")
        time.sleep(0.05)
        return at

    def archive_all(self) -> None:
        """Wait until all that was logged so far is in the archive."""
        # A file without anything in it is not switched.
        write = "select pg_logical_emit_message(true, 'test', '')"
        ((name,),) = self.execute(write, "select pg_walfile_name(pg_switch_wal())")
        deadline = time.monotonic() + 30
        while not (self.backups.wal / name).exists():
            assert time.monotonic() < deadline, "the log was not archived"
            time.sleep(0.05)

    def take(self) -> Path:
        """A backup that is older than all that follows."""
        taken = self.backups.take(self.postgres)
        while datetime.now(UTC) < self.backups.kept()[-1][0]:
            time.sleep(0.05)
        return taken

    def holds(self, value: str) -> bool:
        """Whether any file of the backups has the value in it."""
        files = [path for path in self.backups.folder.rglob("*") if path.is_file()]
        return any(value.encode() in path.read_bytes() for path in files)


@pytest.fixture
def archived(tmp_path: Path) -> Iterator[Archived]:
    server = Archived(tmp_path)
    server.postgres.start()
    yield server
    server.postgres.stop()


def test_a_server_goes_back_to_a_moment_and_what_was_deleted_is_gone_from_backups_after_their_term(archived):
    archived.execute("create table kept (value text)", f"insert into kept values ('{FIRST}')")
    archived.take()
    between = archived.moment()
    archived.execute(f"insert into kept values ('{SECOND}')")
    archived.archive_all()
    with pytest.raises(StackError, match="is running"):
        archived.backups.restore(archived.postgres, between)
    archived.postgres.stop()

    with pytest.raises(StackError, match="no backup is older"):
        archived.backups.restore(archived.postgres, between - timedelta(days=1))
    with pytest.raises(StackError, match="recovery ended before configured recovery target was reached"):
        archived.backups.restore(archived.postgres, between + timedelta(days=1))
    archived.postgres.start()
    assert archived.execute("select value from kept order by 1") == [(FIRST,), (SECOND,)]
    archived.postgres.stop()

    before = archived.backups.restore(archived.postgres, between)
    archived.postgres.start()
    assert archived.execute("select value from kept") == [(FIRST,)]
    assert archived.execute("insert into kept values ('later') returning value") == [("later",)]
    assert (before / "PG_VERSION").exists()

    # The log goes on in a branch of its own, in which one can go back, too.
    later = archived.moment()
    archived.execute("drop table kept")
    archived.archive_all()
    archived.postgres.stop()
    archived.backups.restore(archived.postgres, later)
    archived.postgres.start()
    assert archived.execute("select value from kept order by 1") == [("later",), (FIRST,)]

    # Rows that retention deletes are in the backups of before, and in none that is made after a vacuum.
    archived.execute("delete from kept", "vacuum kept")
    taken = archived.take()
    assert archived.backups.expire(days=35) == []
    assert archived.holds(FIRST)
    assert archived.holds(SECOND)
    term = datetime.now(UTC) + timedelta(days=35, seconds=2)
    half = archived.backups.wal / "archtemp.000000010000000000000001.1.1"
    half.write_text(FIRST)
    os.utime(half, (0, 0))
    assert len(archived.backups.expire(days=35, now=term)) == 1
    assert [path for _, path in archived.backups.kept()] == [taken]
    assert not archived.holds(FIRST)
    assert not archived.holds(SECOND)
    # The newest stays without a successor, and still brings the server back.
    assert archived.backups.expire(days=35, now=term + timedelta(days=1000)) == []


def test_no_one_else_reads_a_backup_and_its_role_reads_no_table(archived):
    """Kind of fault: the copy of everything is less protected than what it was made from."""
    taken = archived.take()
    folders = [archived.backups.folder, *archived.backups.folder.iterdir(), taken]
    assert {oct(path.stat().st_mode & 0o077) for path in folders} == {"0o0"}
    user = server_user()
    assert {path.stat().st_uid for path in folders} == {user.pw_uid if user else os.geteuid()}
    dsn = archived.postgres.dsn("postgres", SUPERUSER).replace(
        f"{SUPERUSER}:{archived.postgres.password}", f"{REPLICA}:of-the-copies"
    )
    archived.execute("create table public.private (value text)")
    # It logs in where anyone may; on a stack `postgres` is closed to all.
    archived.execute("revoke all on database postgres from public")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(dsn)


def test_a_backup_is_refused_when_the_server_archives_nothing_or_elsewhere(archived, tmp_path):
    elsewhere = Backups(tmp_path / "elsewhere")
    with pytest.raises(StackError, match="SAMPAN_BACKUPS"):
        elsewhere.take(archived.postgres)
    assert elsewhere.kept() == []


@pytest.mark.parametrize(
    ("ages", "expired"),
    [((), 0), ((400,), 0), ((70, 40, 10), 1), ((70, 36, 34), 1), ((40, 34), 0), ((71, 70, 69, 36, 35, 1), 4)],
)
def test_backups_expire_when_no_moment_of_the_term_is_restored_from_them(ages, expired, tmp_path):
    backups, now = Backups(tmp_path), datetime(2026, 7, 6, 12, tzinfo=UTC)
    backups.prepare()
    made = []
    for number, age in enumerate(ages, 1):
        made.append(backups.base / (now - timedelta(days=age)).strftime(NAME))
        made[-1].mkdir()
        (made[-1] / "backup_label").write_text(f"START WAL LOCATION: 0/2000028 (file {number:024X})\nCHECKPOINT")
        (backups.wal / f"{number:024X}").touch()
    (backups.base / ".new").mkdir()
    assert backups.expire(35, now) == made[:expired]
    assert [path for _, path in backups.kept()] == made[expired:]
    assert sorted(path.name for path in backups.wal.iterdir()) == [
        f"{number:024X}" for number in range(expired + 1, len(ages) + 1)
    ]


@pytest.mark.slow
def test_the_stack_takes_backups_and_goes_back_by_its_commands(tmp_path):
    """`make backup` and `make restore`, as a person runs them."""
    folder, stack = tmp_path / "backups", tmp_path / "state"
    environment = os.environ | {"SAMPAN_STATE": str(stack), **free_ports()}

    def run(*arguments: str, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "infra.local", *arguments], cwd=ROOT, env=environment | more, capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip
        return f"{done.returncode} {done.stdout}{done.stderr}"

    try:
        assert run("up", "--only", "postgres").startswith("0 ")
        assert "SAMPAN_BACKUPS=<folder> make up" in run("backup")
        assert run("down").startswith("0 ")
        assert run("up", "--only", "postgres", SAMPAN_BACKUPS=str(folder)).startswith("0 ")
        # From now on it is remembered.
        taken = run("backup")
        assert taken.startswith("0 kept: "), taken
        assert run("up", "--only", "postgres").startswith("0 the stack was up already")
        add = "create table ops.marker as select {} as number"
        assert run("psql", "loader", "--sql", add.format(1)).startswith("0 ")
        time.sleep(2.1)
        moment = f"{datetime.now(HONG_KONG):%Y-%m-%d %H:%M:%S}"
        time.sleep(1.1)
        assert run("psql", "loader", "--sql", "update ops.marker set number = 2").startswith("0 ")
        assert "the stack is up: `make down` first" in run("restore", "--at", moment)
        assert run("down").startswith("0 ")
        assert "no backup is older" in run("restore", "--at", "2020-01-01 00:00")
        restored = run("restore", "--at", moment)
        assert restored.startswith("0 "), restored
        assert "docs/runbook.md" in restored
        assert run("up", "--only", "postgres").startswith("0 ")
        assert "\n      1\n" in run("psql", "loader", "--sql", "select number from ops.marker")
        assert len([*stack.glob("postgres.before-*")]) == 1
    finally:
        run("down")
