"""Connections that a process keeps: used again as if they were new, by no other process, and never when they are broken."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sampan.database import connect, scalar
from sampan.errors import TransientFailure

PID = "select pg_backend_pid()"
# What a session can leave behind, and how many of it are left.
LEFT = {
    "create temporary table remains (n int)": "select count(*) from pg_class where relname = 'remains'",
    "set work_mem to '1MB'": "select count(*) from pg_settings where name = 'work_mem' and setting = '1024'",
    "set search_path to pg_temp": "select count(*) where current_setting('search_path') = 'pg_temp'",
    "select set_config('sampan.claim', '1/x/1', false)": "select count(*) where current_setting('sampan.claim', true) <> ''",
    "listen something": "select count(*) from pg_listening_channels()",
    "declare remains cursor with hold for select 1": "select count(*) from pg_cursors where name = 'remains'",
    "set timezone to 'UTC'": "select count(*) where current_setting('timezone') <> 'Asia/Hong_Kong'",
    "set application_name to 'left'": "select count(*) where current_setting('application_name') <> 'sampan_loader'",
}


def pid() -> int:
    with connect() as connection:
        return int(scalar(connection, PID))


@pytest.mark.parametrize("statement", LEFT, ids=lambda statement: statement[:24])
def test_a_session_is_used_again_and_keeps_nothing_of_the_block_before(sampan, statement):
    with connect() as connection:
        before = scalar(connection, PID)
        connection.execute(statement)
        assert scalar(connection, LEFT[statement]) == 1, "the statement leaves nothing to find"
    with connect() as connection:
        assert scalar(connection, PID) == before
        assert scalar(connection, LEFT[statement]) == 0


def test_a_query_that_is_prepared_goes_on_in_the_next_block(sampan):
    """Kind of fault: a session is set back on one side, and the client goes on with what it had prepared there."""
    for _ in range(3):
        with connect() as connection:
            assert [scalar(connection, "select %s::int + 1", [n]) for n in range(8)] == list(range(1, 9))


def test_a_transaction_ends_with_its_block_and_the_next_block_commits_again(sampan):
    with connect(autocommit=False) as connection:
        before = scalar(connection, PID)
        connection.execute("create temporary table kept (n int) on commit preserve rows")
    with connect() as connection:
        assert (scalar(connection, PID), connection.autocommit) == (before, True)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_block_that_failed_gives_its_session_to_no_other(sampan):
    before = pid()
    with pytest.raises(psycopg.errors.DivisionByZero), connect(autocommit=False) as connection:
        connection.execute("select 1 / 0")
    assert pid() != before


def test_a_session_that_the_server_ended_is_replaced(sampan, server):
    before = pid()
    with psycopg.connect(server, autocommit=True) as administrator:
        administrator.execute("select pg_terminate_backend(%s, 5000)", [before])
    assert pid() != before


def test_a_session_that_ends_in_a_block_is_a_transient_failure(sampan, server):
    def lose() -> None:
        with connect() as connection:
            with psycopg.connect(server, autocommit=True) as administrator:
                administrator.execute("select pg_terminate_backend(%s, 5000)", [scalar(connection, PID)])
            connection.execute("select 1")

    with pytest.raises(TransientFailure):
        lose()
    assert pid()


def test_blocks_at_the_same_time_have_sessions_of_their_own(sampan):
    with connect() as outer, connect() as inner:
        assert scalar(outer, PID) != scalar(inner, PID)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: pid(), range(64)))


def test_another_role_has_another_session(sampan):
    with connect("builder") as connection:
        assert scalar(connection, "select session_user") == "sampan_builder"
    with connect("loader") as connection:
        assert scalar(connection, "select session_user") == "sampan_loader"


def test_a_forked_process_does_not_speak_in_its_parents_session(sampan):
    before = pid()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(pid) != before
    assert pid() == before
