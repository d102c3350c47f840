"""A streaming standby of the embedded server: what readers of it see while releases switch, and while it falls behind."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sampan import consent
from sampan.marts import release
from sampan.settings import settings

from infra.local.postgres import STANDBY, SUPERUSER, EmbeddedPostgres
from tests.conftest import QUICK, memory, template_on
from tests.integration.marts.test_release import BOTH, BOTH_REVERSED, ONE, TWO, Reader, _numbers, read, release_one
from tests.integration.test_consent import bank, change, deliver, make_release, seen

# One worker runs them all: they share two servers.
pytestmark = pytest.mark.xdist_group("standby")

# So long may a query of the standby hold the replay up, for a test that waits for it.
DELAY_SECONDS = 1


@pytest.fixture(scope="module")
def primary() -> Iterator[EmbeddedPostgres]:
    with (
        tempfile.TemporaryDirectory(prefix="sampan-primary-", dir=memory(), ignore_cleanup_errors=True) as folder,
        EmbeddedPostgres(
            Path(folder) / "data", replica_password="of-the-copies", durable=False, tuning=QUICK
        ) as postgres,
    ):
        yield postgres


@pytest.fixture(scope="module")
def server(primary: EmbeddedPostgres) -> str:
    """The server of this module's tests, in place of the one that the others share."""
    return primary.dsn()


@pytest.fixture(scope="module")
def template(server: str, secrets_of_session: dict[str, str]) -> Iterator[str]:
    with template_on(server, secrets_of_session) as name:
        yield name


@pytest.fixture(scope="module")
def standby(primary: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """A standby that follows the primary."""
    with tempfile.TemporaryDirectory(prefix="sampan-standby-", dir=memory(), ignore_cleanup_errors=True) as folder:
        primary.copy_to(Path(folder) / "data", slot="standby_of_tests")
        copy = EmbeddedPostgres(
            Path(folder) / "data",
            password=primary.password,
            admin_password=primary.admin_password,
            replica_password=primary.replica_password,
            durable=False,
            tuning=QUICK | STANDBY | {"max_standby_streaming_delay": f"{DELAY_SECONDS}s"},
        )
        copy.run()
        try:
            yield copy
        finally:
            copy.stop()


@pytest.fixture
def replayed(sampan, primary: EmbeddedPostgres, standby: EmbeddedPostgres) -> Iterator[Callable[[], None]]:
    """Waits until the standby has replayed all that the primary has written by now; replay is not paused before or after."""
    replay(standby, "pg_wal_replay_resume")

    def wait() -> None:
        with psycopg.connect(primary.dsn("postgres", SUPERUSER), autocommit=True) as connection:
            written = connection.execute("select pg_current_wal_lsn()").fetchone()
        with psycopg.connect(standby.dsn("postgres", SUPERUSER), autocommit=True) as connection:
            until(lambda: connection.execute("select pg_last_wal_replay_lsn() >= %s", written).fetchone() == (True,))

    wait()
    yield wait
    replay(standby, "pg_wal_replay_resume")


def until(condition: Callable[[], bool], seconds: float = 60) -> float:
    """Wait for the condition; returns the seconds that it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, "it did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - begun


def replay(standby: EmbeddedPostgres, function: str) -> None:
    with psycopg.connect(standby.dsn("postgres", SUPERUSER), autocommit=True) as connection:
        connection.execute(f"select {function}()")
        if function == "pg_wal_replay_pause":
            until(lambda: connection.execute("select pg_get_wal_replay_pause_state()").fetchone() == ("paused",))


def on(standby: EmbeddedPostgres, dsn: str) -> str:
    """A connection string of the primary as one of the standby."""
    return make_conninfo(dsn, port=standby.port)


def reader_of(standby: EmbeddedPostgres) -> str:
    return on(standby, settings().dsn("bi"))


def shown(standby: EmbeddedPostgres) -> set[int]:
    """Release numbers that a new reader of the standby finds in all marts."""
    with psycopg.connect(reader_of(standby), autocommit=True) as connection:
        return _numbers(ONE, TWO)(connection)


def in_one_snapshot(connection: psycopg.Connection) -> set[int]:
    """Both marts by two statements of one snapshot; nothing when it is older than the release that the views show by now."""
    try:
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read")
            return _numbers(ONE, TWO)(connection)
    except psycopg.errors.SerializationFailure:
        return set()


SWAP = """
    begin;
    create schema new;
    create table release_{0}.one as select {0} as release_no; create table release_{0}.two as select {0} as release_no;
    create view new.both as select * from release_{0}.one union select * from release_{0}.two;
    alter schema marts rename to marts_before_{0};
    alter schema new rename to marts;
    commit;
"""


def test_a_standby_shows_all_of_a_swap_of_schemas_or_nothing_of_it(primary, standby):
    """The means of a release without the platform, for a run that has little time. One name is looked up at one moment."""
    replay(standby, "pg_wal_replay_resume")
    with (
        psycopg.connect(primary.dsn("postgres", SUPERUSER), autocommit=True) as connection,
        psycopg.connect(standby.dsn("postgres", SUPERUSER), autocommit=True) as far,
    ):
        connection.execute("create schema marts; create table marts.both (release_no int)")
        until(lambda: far.execute("select to_regclass('marts.both')").fetchone() != (None,))
        query = "select release_no from marts.both"
        reader = Reader(_numbers(query), dsn=standby.dsn("postgres", SUPERUSER))
        reader.start()
        for number in range(1, 21):
            connection.execute(f"create schema release_{number}")
            connection.execute(SWAP.format(number))
            reads = reader.reads
            until(lambda reads=reads: reader.reads > reads + 1)
        until(lambda: far.execute(query).fetchall() == [(20,)])
        reader.stop.set()
        reader.join(10)
        assert (reader.errors, reader.mixed) == ([], 0)
        assert len(reader.seen) > 2
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            far.execute("drop schema marts cascade")


# --- releases ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_reader_of_the_standby_sees_one_whole_release_at_every_moment(sampan, standby, replayed):
    numbers = [release_one()]
    replayed()
    dsn = reader_of(standby)
    # A whole release in each statement, and in each snapshot of several statements.
    whole = [Reader(_numbers(query), dsn=dsn) for query in (ONE, TWO, BOTH, BOTH_REVERSED)]
    whole += [Reader(in_one_snapshot, dsn=dsn)]
    several = [Reader(_numbers(*pair), autocommit=False, dsn=dsn) for pair in ((ONE, TWO), (TWO, ONE))]
    for reader in (*whole, *several):
        reader.start()
    for _ in range(6):
        numbers.append(release_one())
    for _ in range(6):
        release.rollback(numbers[-2])
        release.rollback(numbers[-1])
    replayed()
    replay(standby, "pg_wal_replay_pause")
    assert shown(standby) == {numbers[-1]}
    numbers += [release_one() for _ in range(3)]
    assert {row[0] for row in read(BOTH)} == {numbers[-1]}
    assert shown(standby) == {numbers[-4]}
    replay(standby, "pg_wal_replay_resume")
    replayed()
    assert shown(standby) == {numbers[-1]}
    for reader in (*whole, *several):
        reader.stop.set()
        reader.join(10)
    assert [reader.errors for reader in (*whole, *several)] == [[]] * 7
    assert [reader.mixed for reader in whole] == [0] * 5
    assert all(reader.reads > 50 for reader in (*whole, *several))
    assert all(len(reader.seen) > 2 for reader in (*whole, *several))
    assert set.union(*(reader.seen for reader in whole)) <= set(numbers)
    assert max(reader.longest for reader in (*whole, *several)) < 10


def held_up(standby: EmbeddedPostgres, replayed: Callable[[], None], query: str, change: Callable[[], object]):
    """Read on the standby in a transaction that stays open while the primary changes. Returns the error that its next
    statement gets, or None, and how long (s) the standby took to follow."""
    with psycopg.connect(reader_of(standby)) as idle:
        idle.execute(query)
        change()
        begun = time.monotonic()
        replayed()
        took = time.monotonic() - begun
        try:
            idle.execute("select 1")
        except psycopg.Error as error:
            return error, took
        return None, took


@pytest.mark.slow
def test_no_switch_ends_a_transaction_on_the_standby_or_lets_it_fall_behind(sampan, standby, replayed, monkeypatch):
    """Kind of fault: the primary knows no reader of the standby, and takes away the views that one still uses."""
    release_one()
    replayed()
    error, took = held_up(standby, replayed, BOTH, lambda: [release_one() for _ in range(3)])
    assert error is None
    assert took < DELAY_SECONDS
    left = "select count(*) from pg_namespace where nspname like 'marts_before_%%'"
    assert sampan.one(left) == 4
    # Views that were swapped out go when no reader of the standby can be using them any more.
    sampan.rows("update ops.release_activation set activated_at = activated_at - interval '31 minutes' returning 1")
    release.run()
    assert sampan.one(left) == 0
    # This is what happens to a reader without that: it holds the replay up, and is ended.
    monkeypatch.setattr(release, "VIEWS_STAY", timedelta())
    replayed()
    error, took = held_up(standby, replayed, BOTH, release_one)
    assert isinstance(error, psycopg.OperationalError)
    assert took > 0.5 * DELAY_SECONDS


@pytest.mark.slow
def test_a_reader_of_a_release_that_is_dropped_is_ended_on_the_standby_with_what_a_retry_cures(
    sampan, standby, replayed, monkeypatch
):
    first = release_one()
    for _ in range(release.KEEP - 1):
        release_one()
    sampan.rows("update ops.release_activation set activated_at = activated_at - interval '31 minutes' returning 1")
    replayed()
    query = f"select count(*) from release_{first}.mart_one where pg_sleep(0.1) is not null"
    with psycopg.connect(reader_of(standby), autocommit=True) as reader:
        statement = Reader(_numbers(query), dsn=reader_of(standby))
        statement.start()
        until(lambda: bool(reader.execute("select 1 from pg_locks where mode = 'AccessShareLock' and relation ="
                                          f" 'release_{first}.mart_one'::regclass").fetchone()))  # fmt: skip
        release_one()
        replayed()
        statement.join(20)
    ((error,),) = [statement.errors]
    assert "conflict with recovery" in error
    assert error.startswith("SerializationFailure")
    assert sampan.one("select to_regnamespace(%s) is null", f"release_{first}")


@pytest.mark.slow
def test_rights_are_those_of_the_primary_and_nothing_is_written_on_the_standby(sampan, standby, replayed):
    release_one()
    replayed()
    with psycopg.connect(reader_of(standby), autocommit=True) as reader:
        assert len(reader.execute("select * from marts.mart_one").fetchall()) == 50
        for statement in (
            "select * from ops.batch",
            "select * from raw.customs_declarations",
            "set role sampan_builder",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement)
        ((limit,),) = reader.execute("show statement_timeout").fetchall()
        assert limit == "15min"
    with (
        psycopg.connect(on(standby, settings().dsn("loader")), autocommit=True) as loader,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        loader.execute("delete from ops.batch")
    wrong = conninfo_to_dict(reader_of(standby)) | {"password": "wrong"}
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(**wrong)


@pytest.mark.slow
def test_a_bank_reads_its_live_consents_on_the_standby_and_nothing_when_that_is_too_far_behind(
    sampan, standby, replayed
):
    """Kind of fault: a revocation counts at once on the primary, and a standby that stands still shows the row for ever."""
    # Five minutes are too long for a test; the clause is the same.
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as loader:
        ((function,),) = loader.execute("select pg_get_functiondef('ops.is_behind'::regproc)").fetchall()
        assert function.count("'5 minutes'") == 1
        loader.execute(function.replace("'5 minutes'", "'3 seconds'"))
    deliver(sampan, [change(1), change(2), change(3, dataConsumerId="B002")])
    make_release(numbers=(1, 2, 3))
    one, two = ({("B001", f"CS{number:010}", scope) for scope in ("trade_declaration", "payment")} for number in (1, 2))
    with bank() as person:
        replayed()
        dsn = on(standby, make_conninfo(person.info.dsn, password=person.info.password))
        with psycopg.connect(dsn, autocommit=True) as far:
            assert seen(person) == seen(far) == one | two
            # An idle primary is not a standby that lags.
            time.sleep(4)
            assert seen(far) == one | two
            consent.revoke("CS0000000001", "the owner rang", "steward")
            assert seen(person) == two
            replayed()
            assert seen(far) == two
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                far.execute("select * from ops.consent")
            # The lag: what the primary has revoked is seen until it is replayed, and no longer than the bound.
            replay(standby, "pg_wal_replay_pause")
            consent.revoke("CS0000000002", "the owner rang", "steward")
            assert seen(person) == set()
            assert seen(far) == two
            assert until(lambda: seen(far) == set(), 20) < 10
            replay(standby, "pg_wal_replay_resume")
            replayed()
            assert seen(far) == set()
            consent_of_other = "CS0000000003"
            assert consent.describe(consent_of_other)["live_scopes"]
    with bank("bank_b002") as person:
        replayed()
        dsn = on(standby, make_conninfo(person.info.dsn, password=person.info.password))
        with psycopg.connect(dsn, autocommit=True) as far:
            assert {row[1] for row in seen(far)} == {"CS0000000003"}


@pytest.mark.slow
def test_a_bank_reads_nothing_on_a_standby_that_has_lost_its_primary(sampan, primary, standby, replayed):
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as loader:
        ((function,),) = loader.execute("select pg_get_functiondef('ops.is_behind'::regproc)").fetchall()
        loader.execute(function.replace("'5 minutes'", "'1 second'"))
    deliver(sampan, [change(1)])
    make_release(numbers=(1,))
    with bank() as person:
        replayed()
        dsn = on(standby, make_conninfo(person.info.dsn, password=person.info.password))
        with psycopg.connect(dsn, autocommit=True) as far:
            assert seen(far) != set()
            primary.stop()
            try:
                until(lambda: seen(far) == set(), 20)
                # What is not a bank's is read on.
                assert shown_open(standby) == 1
            finally:
                primary.run()
            until(lambda: seen(far) != set(), 60)


def shown_open(standby: EmbeddedPostgres) -> int:
    with psycopg.connect(reader_of(standby), autocommit=True) as connection:
        return len(connection.execute("select * from marts.mart_open").fetchall())
