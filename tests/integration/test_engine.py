"""What crosses between PostgreSQL and an engine stays what it is. All values are synthetic."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import duckdb
import psycopg
import pytest
from sampan.engine import engine
from sampan.engine.postgres import Mart, Postgres
from sampan.engine.spark import Spark
from sampan.errors import PermanentFailure, SettingsFailure, TransientFailure
from sampan.marts import build
from sampan.marts.dbt import PROJECT
from sampan.marts.steps import all_steps
from sampan.settings import read_yaml, settings

from tests.integration.published import publish

FEED = "festival_participants"
NAMES = ["", '"', "a,b", 'said "so"', "two\nlines", "\\N", "\\.", "NULL", " 糖果 ", "\u2028", "'; drop table x; --"]
HOSTILE = """
    select * from (values
        (1, '', 'a "quoted", one', 1.25, date '2026-07-06', true),
        (2, null, E'two\nlines', null, null, false),
        (3, '\\N', '糖果', -0.5, date '1841-01-26', null)
    ) as t (n, text_or_none, any_text, amount, day, flag)
    order by n
"""


@pytest.fixture(params=["postgres", "duckdb", "spark"])
def chosen(request: pytest.FixtureRequest, sampan, monkeypatch):
    """Each engine in turn, on a fresh installation."""
    return _choose(request.param, monkeypatch)


@pytest.fixture(params=["duckdb", "spark"])
def beside(request: pytest.FixtureRequest, sampan, monkeypatch):
    """Each engine in turn that keeps tables beside the server, on a fresh installation."""
    return _choose(request.param, monkeypatch)


def _choose(name: str, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """An engine; without Spark itself, which `make test-spark` asks."""
    monkeypatch.setattr(Spark, "_run", lambda *_: None)
    monkeypatch.setenv("SAMPAN_BUILD_ENGINE", name)
    settings.cache_clear()
    return engine()


@pytest.fixture
def builder(sampan):
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        yield connection


def test_statistics_read_texts_numbers_and_nulls_as_they_are_on_either_engine(chosen, builder):
    query = HOSTILE if chosen.name == "postgres" else HOSTILE.replace("E'two\nlines'", "'two' || chr(10) || 'lines'")
    rows = chosen.read(builder, query).to_pylist()
    assert [tuple(row.values())[:4] for row in rows] == [
        (1, "", 'a "quoted", one', 1.25),
        (2, None, "two\nlines", None),
        (3, "\\N", "糖果", -0.5),
    ]
    assert [(str(row["day"]), row["flag"]) for row in rows] == [
        ("2026-07-06", True),
        ("None", False),
        ("1841-01-26", None),
    ]
    empty = chosen.read(builder, f"select * from ({query}) as q where n > 3")
    assert (empty.num_rows, empty.schema.names) == (0, ["n", "text_or_none", "any_text", "amount", "day", "flag"])


def _build_of(builder: psycopg.Connection, *batches: int) -> None:
    builder.execute("insert into ops.build (as_of_date) values ('2026-07-07') on conflict do nothing")
    for batch in batches:
        builder.execute("insert into ops.build_batch select max(build_no), %s from ops.build", [batch])


def test_raw_rows_come_back_from_either_engine_as_they_were_published(sampan, chosen, builder):
    rows = [{"merchant_no": f"M{n:04}", "shop_name": name or "none"} for n, name in enumerate(NAMES)]
    _build_of(builder, publish(FEED, "2026-07-06", rows))
    assert sampan.rows(f"update raw.{FEED} set shop_name = '' where shop_name = 'none' returning 1") == [(1,)]
    chosen.begin(builder)
    builder.execute(f"create temporary table back (like raw.{FEED})")
    columns = ", ".join(column.name for column in builder.execute("select * from back").description)
    assert chosen.insert(builder, "pg_temp.back", f"select {columns} from raw.{FEED}") == len(NAMES)
    assert builder.execute(f"select * from back except all select * from raw.{FEED}").fetchall() == []
    assert [name for (name,) in builder.execute("select shop_name from back order by merchant_no")] == NAMES


def test_an_engine_has_the_raw_rows_of_the_batches_of_builds_and_no_others(sampan, beside, builder):
    first, second, third = (publish(FEED, f"2026-07-0{n}", [{"merchant_no": f"M000{n}"}]) for n in (6, 7, 8))

    def held() -> list[int]:
        query = f"select distinct _batch_id as batch from raw.{FEED} order by 1"
        return beside.read(builder, query).column("batch").to_pylist()

    _build_of(builder, first, second)
    beside.begin(builder)
    assert held() == [first, second]
    # As after a withdrawal.
    builder.execute("update ops.build_batch set is_withdrawn = true where batch_id = %s", [first])
    _build_of(builder, third)
    beside.begin(builder)
    assert held() == [second, third]
    # As by retention.
    assert beside.batches(builder, second) == [f"raw.{FEED}"]
    beside.delete(builder, second)
    assert beside.batches(builder, second) == []
    assert held() == [third]


def test_an_engine_has_raw_rows_once_when_their_copy_was_killed(sampan, beside, builder):
    _build_of(builder, publish(FEED, "2026-07-06", [{"merchant_no": "M0001"}, {"merchant_no": "M0002"}]))
    script = """if True:
        from sampan.database import connect
        from sampan.engine import engine
        with connect("builder") as connection:
            engine().begin(connection)
    """
    environment = os.environ | {"SAMPAN_FAILPOINT": "engine.before_commit"}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    beside.begin(builder)
    assert beside.read(builder, f"select merchant_no from raw.{FEED} order by 1").to_pydict() == {
        "merchant_no": ["M0001", "M0002"]
    }


MART = Mart(
    "model.sampan.mart_x", "build", "mart_x", "What it's of.",
    [("n", "bigint", False, "A number."), ("name", "text", True, "")],
    ["n"], [], [["name"]], is_read_under_consent=False,
)  # fmt: skip


def test_a_mart_is_handed_over_whole_or_its_node_has_failed(sampan, builder, monkeypatch):
    monkeypatch.setenv("SAMPAN_BUILD_ENGINE", "duckdb")
    settings.cache_clear()
    _build_of(builder)
    builder.execute("insert into ops.build_step (build_no, step) values (1, 'staging')")

    def made(rows: str) -> None:
        with duckdb.connect(engine().environment()["SAMPAN_DBT_FILE"]) as file:
            file.execute(f"create schema if not exists build; create or replace table build.mart_x as {rows}")

    made("select n, nullif(name, 'none') as name from (values (1, ''), (2, 'none'), (3, 'a')) as t (n, name)")
    for _ in ("first", "again"):
        assert engine().hand_over(builder, "1/staging/1", [MART]) == {}
        assert builder.execute("select * from build.mart_x order by n").fetchall() == [(1, ""), (2, None), (3, "a")]
    told = "select obj_description('build.mart_x'::regclass), col_description('build.mart_x'::regclass, 1)"
    assert builder.execute(told).fetchone() == ("What it's of.", "A number.")
    assert builder.execute("select count(*) from pg_index where indrelid = 'build.mart_x'::regclass").fetchone() == (2,)
    made("select * from (values (1, 'secret'), (1, 'twice')) as t (n, name)")
    wrong = engine().hand_over(builder, "1/staging/1", [MART])
    assert wrong == {MART.node: 'could not create unique index "mart_x_pkey"'}
    # The table of before is not replaced by half of another.
    assert builder.execute("select count(*) from build.mart_x").fetchone() == (3,)
    with pytest.raises(psycopg.errors.ObjectInUse):
        engine().hand_over(builder, "1/staging/0", [MART])


def test_an_engine_that_lacks_what_was_released_derives_all_again(sampan, builder, monkeypatch):
    assert engine().holds(builder)
    builder.execute("insert into ops.build (as_of_date, state, engine) values ('2026-07-07', 'released', 'postgres')")
    assert engine().holds(builder)
    monkeypatch.setenv("SAMPAN_BUILD_ENGINE", "duckdb")
    settings.cache_clear()
    assert not engine().holds(builder)
    builder.execute("insert into ops.build (as_of_date, state, engine) values ('2026-07-08', 'released', 'duckdb')")
    engine().end(1)
    # A file of before the newest release, as from a backup.
    assert not engine().holds(builder)
    engine().end(2)
    assert engine().holds(builder)
    monkeypatch.setenv("SAMPAN_BUILD_ENGINE", "postgres")
    settings.cache_clear()
    assert not engine().holds(builder)


def test_a_build_that_was_begun_with_another_engine_begins_again(sampan, monkeypatch):
    publish(FEED, "2026-07-06", [{"merchant_no": "M0001"}])
    with build.lock() as connection:
        begun = build._begin(connection, force=False, full_refresh=False)
        assert begun is not None
        assert begun.engine == "postgres"
        monkeypatch.setenv("SAMPAN_BUILD_ENGINE", "duckdb")
        settings.cache_clear()
    with pytest.raises(PermanentFailure, match="build 1 was begun with postgres, and SAMPAN_BUILD_ENGINE is duckdb"):
        build.run("identity")
    with build.lock() as connection:
        again = build._begin(connection, force=False, full_refresh=False)
        assert again is not None
        assert (again.build_no, again.engine, again.batches) == (begun.build_no, "duckdb", begun.batches)


def test_duckdb_keeps_to_its_memory_and_spills(sampan, builder, monkeypatch):
    monkeypatch.setenv("SAMPAN_BUILD_ENGINE", "duckdb")
    monkeypatch.setenv("SAMPAN_BUILD_MEMORY", "60MB")
    settings.cache_clear()
    sort = "select sum(place) as n from (select row_number() over (order by md5(range::text)) as place from range(1500000))"
    assert engine().read(builder, sort).to_pylist() == [{"n": 1500000 * 1500001 / 2}]
    # The same without a place to write to does not fit.
    alone = duckdb.connect()
    alone.execute("set memory_limit = '60MB'; set max_temp_directory_size = '0MB'")
    with pytest.raises(duckdb.OutOfMemoryException):
        alone.execute(sort).fetchall()


def test_dbt_goes_on_after_a_model_that_did_not_fit_into_memory(tmp_path):
    """Kind of fault: what dbt sets before each statement is refused once DuckDB has used it, so no large build ended."""
    profile = read_yaml(PROJECT / "profiles.yml")["sampan"]["outputs"]["duckdb"]
    options = profile["config_options"] | {"memory_limit": "60MB", "temp_directory": str(tmp_path / "spill")}
    with duckdb.connect(str(tmp_path / "x.duckdb"), config=options) as connection:
        # Larger than its memory, and read once more.
        connection.execute("create temp table written as select md5(range::text) as text from range(3000000)")
        assert connection.execute("select count(*) from duckdb_temporary_files()").fetchone() != (0,)
        for name, value in profile["settings"].items():
            connection.cursor().execute(f"set {name} = '{value}'")


def test_a_file_that_another_process_has_open_is_waited_for_by_a_retry(sampan, builder, monkeypatch, tmp_path):
    monkeypatch.setenv("SAMPAN_BUILD_ENGINE", "duckdb")
    settings.cache_clear()
    file = engine().environment()["SAMPAN_DBT_FILE"]
    script = f"import duckdb; c = duckdb.connect({file!r}); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(TransientFailure, match=r"another builder has .*warehouse\.duckdb open"):
            engine().end(1)
        other.communicate(b"\n")
    engine().end(1)


def test_families_are_built_one_after_the_other_where_the_engine_has_one_file(sampan, monkeypatch):
    family, other = [step for step in all_steps() if step.is_family][:2]
    with build.lock(family), build.lock(other):
        pass
    monkeypatch.setenv("SAMPAN_BUILD_ENGINE", "duckdb")
    settings.cache_clear()

    def take() -> None:
        with build.lock(other):
            pass

    with ThreadPoolExecutor() as pool:
        with build.lock(family):
            waiting = pool.submit(take)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=1)
            with pytest.raises(TransientFailure, match="another builder is working"), build.lock():
                pass
        waiting.result(timeout=30)


def test_an_unknown_engine_is_refused_with_those_that_there_are(monkeypatch):
    monkeypatch.setenv("SAMPAN_BUILD_ENGINE", "sqlite")
    settings.cache_clear()
    with pytest.raises(
        SettingsFailure, match=r"unknown engine 'sqlite' in SAMPAN_BUILD_ENGINE; engines: postgres, duckdb, spark"
    ):
        engine()
    settings.cache_clear()
