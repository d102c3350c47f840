"""Releases on small marts made by hand: what readers see while a release, a rollback or a crash happens."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sampan.contracts.model import Rule
from sampan.database import drop_relations
from sampan.errors import PermanentFailure, Problem, TransientFailure
from sampan.marts import build, disclosure, release
from sampan.marts.steps import Step
from sampan.quality import expectations, mart_rules
from sampan.settings import settings

from tests import forked
from tests.conftest import ROOT

COLUMNS = {
    "mart_one": "%(no)s::bigint as release_no, g as id, 'x' || g as name",
    "mart_two": "%(no)s::bigint as release_no, g as id, g * 2 as amount_hkd",
}
TRADE, FUNDING = Step("marts__trade"), Step("marts__funding")
FAILPOINTS = (
    "release.after_rename",
    "release.before_swap",
    "release.after_swap",
    "release.before_commit",
    "release.after_commit",
    "release.before_drop_commit",
)


def make_build(columns: dict[str, str] | None = None, rows: int = 50, passed: bool = True) -> int:
    """A complete build with these marts, as dbt leaves it; its gate has passed unless said otherwise."""
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        ((number,),) = connection.execute(
            "insert into ops.build (state, as_of_date, built_at) values ('built', '2026-07-06', clock_timestamp())"
            " returning build_no"
        ).fetchall()
        connection.execute("create schema build")
        for mart, select in (columns or COLUMNS).items():
            table = sql.Identifier("build", mart)
            query = sql.SQL("create table {} as select ").format(table).as_string() + select % {"no": number}
            connection.execute(query + f" from generate_series(1, {rows}) g")
            connection.execute(sql.SQL("comment on table {} is 'One row per id.'").format(table))
            connection.execute(sql.SQL("comment on column {}.id is 'Number of the row.'").format(table))
        if passed:
            verdict = expectations.CheckResult(
                "ok", "Holds.", "expect_table_row_count_to_be_between", None, "critical", True, {}
            )
            expectations.store(connection, "mart_one", [verdict], build_no=number)
    return number


def release_one(**options) -> int:
    number = make_build(**options)
    assert release.run()["release_no"] == number
    return number


def read(query: str, connection: psycopg.Connection | None = None) -> list[tuple]:
    if connection is not None:
        return connection.execute(query).fetchall()
    with psycopg.connect(settings().dsn("bi"), autocommit=True) as reader:
        return reader.execute(query).fetchall()


def shown() -> set[int]:
    """Release numbers that a new reader finds in all marts."""
    return {row[0] for mart in COLUMNS for row in read(f"select distinct release_no from marts.{mart}")}


def run_and_die(code: str, failpoint: str) -> None:
    """Run code in a process of its own that is killed at the failpoint."""
    ended = forked.run(["-c", code], os.environ | {"SAMPAN_FAILPOINT": failpoint}, ROOT, timeout=120)
    assert ended.returncode == -9, ended.stderr


def test_release_shows_every_mart_with_comments_when_the_gate_has_passed(sampan):
    number = release_one()
    assert shown() == {number}
    assert read("select count(*) from marts.mart_two") == [(50,)]
    assert read(f"select count(*) from release_{number}.mart_one") == [(50,)]
    assert read("select obj_description('marts.mart_one'::regclass)") == [
        ("One row per id. Disclosure: row level, tells of single enterprises; not for publication.",)
    ]
    assert read("select col_description('marts.mart_one'::regclass, 2)") == [("Number of the row.",)]
    ((kept,),) = [release.list_releases()]
    assert (kept["release_no"], kept["live"], kept["rows"]) == (number, True, {"mart_one": 50, "mart_two": 50})


def test_release_does_nothing_when_no_build_waits(sampan):
    assert release.run() == {"release_no": 0, "marts": 0, "rows": 0}
    number = release_one()
    assert release.run()["release_no"] == 0
    assert shown() == {number}


def test_release_is_refused_when_the_gate_has_not_passed(sampan):
    first = release_one()
    make_build(passed=False)
    with pytest.raises(PermanentFailure, match="has not passed its gate"):
        release.run()
    assert shown() == {first}


def test_release_is_refused_when_the_build_changed_after_its_gate(sampan):
    make_build()
    sampan.rows("update ops.build set built_at = clock_timestamp() returning 1")
    with pytest.raises(PermanentFailure, match="has not passed its gate"):
        release.run()


def test_release_is_refused_when_the_build_is_half_done(sampan):
    make_build()
    sampan.rows("update ops.build set state = 'open' returning 1")
    with pytest.raises(PermanentFailure, match="is not complete"):
        release.run()


def test_release_waits_when_another_builder_is_at_work(sampan):
    make_build()
    with build.lock(), pytest.raises(TransientFailure, match="another builder"):
        release.run()
    with build.lock(TRADE):
        with pytest.raises(TransientFailure, match="another builder"):
            release.run()
        with build.lock(FUNDING):
            pass
        with pytest.raises(TransientFailure, match="another builder"), build.lock(TRADE):
            pass
    assert release.run()["release_no"]


# --- gate -------------------------------------------------------------------------------------------------------------


def _rules(monkeypatch: pytest.MonkeyPatch, severity: str, least: int) -> None:
    rule = Rule("has_rows", "", severity, None, "expect_table_row_count_to_be_between", {"min_value": least})
    monkeypatch.setattr(mart_rules, "load", lambda: dict.fromkeys(COLUMNS, (rule,)))


def test_gate_keeps_the_live_release_and_gives_the_build_up_when_a_critical_rule_breaks(sampan, monkeypatch):
    first = release_one()
    number = make_build(passed=False)
    _rules(monkeypatch, "critical", 1_000)
    with pytest.raises(PermanentFailure, match="mart_one: has_rows"):
        release.gate()
    assert sampan.one("select state from ops.build where build_no = %s", number) == "failed"
    assert release.run()["release_no"] == 0
    assert shown() == {first}
    found = sampan.rows("select suite, success, observed from ops.gate_result where build_no = %s order by 1", number)
    assert found == [("mart_one", False, {"value": 50.0}), ("mart_two", False, {"value": 50.0})]


def test_gate_passes_and_counts_when_only_a_warning_breaks(sampan, monkeypatch):
    number = make_build(passed=False)
    _rules(monkeypatch, "warning", 1_000)
    assert release.gate() == {"build_no": number, "rules": 2, "broken": 2, "carried": 0}
    assert release.gate() == {"build_no": number, "rules": 2, "broken": 2, "carried": 0}
    assert sampan.one("select count(*) from ops.gate_result where build_no = %s", number) == 2
    assert release.run()["release_no"] == number


def test_gate_refuses_a_mart_that_nothing_is_expected_of(sampan, monkeypatch):
    make_build({**COLUMNS, "mart_three": "1 as id"}, passed=False)
    _rules(monkeypatch, "critical", 1)
    with pytest.raises(PermanentFailure, match="no expectations for mart_three"):
        release.gate()


# --- readers ----------------------------------------------------------------------------------------------------------


@dataclass
class Reader(threading.Thread):
    """Asks again and again until told to stop; keeps errors, mixed answers and the longest wait (s)."""

    ask: Callable[[psycopg.Connection], set[int]]
    autocommit: bool = True
    dsn: str = field(default_factory=lambda: settings().dsn("bi"))
    errors: list[str] = field(default_factory=list)
    mixed: int = 0
    reads: int = 0
    longest: float = 0.0
    seen: set[int] = field(default_factory=set)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        with psycopg.connect(self.dsn, autocommit=self.autocommit) as connection:
            while not self.stop.is_set():
                started = time.monotonic()
                try:
                    numbers = self.ask(connection)
                    connection.commit() if not self.autocommit else None
                except psycopg.Error as error:
                    self.errors.append(f"{type(error).__name__}: {error}")
                    return
                self.longest = max(self.longest, time.monotonic() - started)
                self.reads += 1
                self.mixed += len(numbers) > 1
                self.seen |= numbers


def _numbers(*queries: str) -> Callable[[psycopg.Connection], set[int]]:
    return lambda connection: {row[0] for query in queries for row in connection.execute(query).fetchall()}


ONE, TWO = "select distinct release_no from marts.mart_one", "select distinct release_no from marts.mart_two"
BOTH, BOTH_REVERSED = f"{ONE} union {TWO}", f"{TWO} union {ONE}"


def test_no_reader_is_blocked_killed_or_shown_a_mix_when_releases_follow_one_another(sampan):
    release_one()
    single = [Reader(_numbers(query)) for query in (ONE, TWO, BOTH, BOTH_REVERSED)]
    several = [Reader(_numbers(*pair), autocommit=False) for pair in ((ONE, TWO), (TWO, ONE))]
    for reader in (*single, *several):
        reader.start()
    numbers = [release_one() for _ in range(12)]
    for _ in range(6):
        release.rollback(numbers[-2])
        release.rollback(numbers[-1])
    for reader in (*single, *several):
        reader.stop.set()
        reader.join(10)
    assert [reader.errors for reader in (*single, *several)] == [[]] * 6
    assert [reader.mixed for reader in single] == [0] * 4
    assert all(reader.reads > 50 for reader in (*single, *several))
    assert all(len(reader.seen) > 2 for reader in single)
    # One that waits for a lock waits as long as the idle reader before it: for ever. A busy machine is slow, too.
    assert max(reader.longest for reader in (*single, *several)) < 10


def test_several_statements_see_one_release_when_they_name_it(sampan):
    first = release_one()
    with psycopg.connect(settings().dsn("bi")) as reader:
        assert read(f"select distinct release_no from release_{first}.mart_one", reader) == [(first,)]
        second = release_one()
        assert read(f"select distinct release_no from release_{first}.mart_two", reader) == [(first,)]
        assert read(TWO, reader) == [(second,)]


def test_an_idle_transaction_does_not_block_a_release_and_its_views_go_once_it_ends(sampan):
    first = release_one()
    with psycopg.connect(settings().dsn("bi")) as idle:
        assert read(BOTH, idle) == [(first,)]
        started = time.monotonic()
        second = release_one()
        assert time.monotonic() - started < 10
        assert shown() == {second}
        assert sampan.one("select count(*) from pg_namespace where nspname like 'marts_before_%%'") == 1
    release_one()
    assert sampan.one("select count(*) from pg_namespace where nspname like 'marts_before_%%'") == 0


def test_an_older_snapshot_is_refused_and_not_shown_an_empty_mart(sampan):
    first = release_one()
    with psycopg.connect(settings().dsn("bi")) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        assert read(ONE, reader) == [(first,)]
        second = release_one()
        with pytest.raises(psycopg.errors.SerializationFailure, match=f"started before release {second} was shown"):
            read("select count(*) from marts.mart_one", reader)
        reader.rollback()
        assert read(ONE, reader) == [(second,)]
        # A release of before is older than the snapshot; that it is shown again is not.
        release.rollback(first)
        with pytest.raises(psycopg.errors.SerializationFailure, match=f"started before release {first} was shown"):
            read(TWO, reader)
        reader.rollback()
        assert read(BOTH, reader) == [(first,)]


def test_a_prepared_statement_follows_the_release(sampan):
    first = release_one()
    with psycopg.connect(settings().dsn("bi"), autocommit=True) as reader:
        query = "select release_no, count(id) from marts.mart_one where id > %s group by 1"
        for _ in range(7):
            assert reader.execute(query, [10], prepare=True).fetchall() == [(first, 40)]
        second = release_one()
        assert reader.execute(query, [10], prepare=True).fetchall() == [(second, 40)]
        release.rollback(first)
        assert reader.execute(query, [10], prepare=True).fetchall() == [(first, 40)]


def test_columns_may_be_added_dropped_and_retyped_between_releases(sampan):
    release_one()
    with psycopg.connect(settings().dsn("bi"), autocommit=True) as reader:
        prepared, everything = "select count(id) from marts.mart_one", "select * from marts.mart_one"
        assert reader.execute(prepared, prepare=True).fetchone() == (50,)
        reader.execute(everything, prepare=True)
        changed = {"mart_one": "g::numeric as id, %(no)s::bigint as release_no, true as is_new"}
        number = release_one(columns=changed)
        assert reader.execute(prepared, prepare=True).fetchone() == (50,)
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="cached plan"):
            reader.execute(everything, prepare=True)
        assert [column.name for column in reader.execute(everything, prepare=False).description or ()] == [
            "id", "release_no", "is_new",
        ]  # fmt: skip
        assert read(ONE, reader) == [(number,)]
        with pytest.raises(psycopg.errors.UndefinedTable):
            read(TWO, reader)


def test_a_renamed_column_is_read_under_both_names_and_its_comment_says_which_to_use(sampan):
    mart, month = "marts.mart_currency_effect", date(2026, 7, 1)
    columns = {
        "mart_one": COLUMNS["mart_one"],
        "mart_currency_effect": "%(no)s::bigint as release_no, g as id, date '2026-07-01' as payment_month",
        "mart_trade_missions": "%(no)s::bigint as release_no, g as id, '631' as market_csd_code,"
        " case when g = 1 then 'CN' end as market_iso2_code",
    }
    first = release_one(columns=columns, rows=2)
    assert read(f"select payment_month, month from {mart}") == [(month, month)] * 2
    assert read("select market_code from marts.mart_trade_missions order by id") == [("CN",), ("631",)]
    ((comment,),) = read(f"select col_description('{mart}'::regclass, 4)")
    assert comment == "Deprecated since version 0.2.0, removed in the one after it: use payment_month."
    assert "payment_month" in sampan.cli("marts", "deprecations").stdout
    # A release of the version before has the old name only, and is shown as it is.
    release_one(
        columns=columns | {"mart_currency_effect": "%(no)s::bigint as release_no, g as id, date '2026-06-01' as month"}
    )
    assert read(f"select distinct month from {mart}") == [(date(2026, 6, 1),)]
    assert release.rollback()["release_no"] == first
    assert read(f"select distinct month from {mart}") == [(month,)]


def test_the_filter_of_a_view_reaches_the_index_of_its_table(sampan):
    number = make_build(rows=20_000)
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute("create index on build.mart_one (id)")
        connection.execute("analyze build.mart_one")
    assert release.run()["release_no"] == number
    plan = "\n".join(row[0] for row in read("explain (analyze) select * from marts.mart_one where id = 77"))
    assert "Index" in plan
    assert "One-Time Filter" in plan


# --- rights -----------------------------------------------------------------------------------------------------------


def test_the_reader_reads_marts_and_releases_and_nothing_else(sampan):
    release_one()
    number = release_one()
    readable = sampan.rows(
        "select distinct nspname from pg_class join pg_namespace n on n.oid = relnamespace where relkind in"
        " ('r', 'v', 'p', 'm', 'f') and nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and"
        " has_schema_privilege('bi_reader', n.oid, 'usage')"
        " and has_table_privilege('bi_reader', pg_class.oid, 'select') order by 1",
        role="admin",
    )
    assert readable == [("marts",), (f"release_{number - 1}",), (f"release_{number}",)]
    writable = sampan.one(
        "select count(*) from pg_class join pg_namespace n on n.oid = relnamespace"
        " where nspname !~ '^pg_|information_schema' and relkind in ('r', 'v', 'p')"
        " and has_table_privilege('bi_reader', pg_class.oid,"
        " 'insert, update, delete, truncate, references, trigger')",
        role="admin",
    )
    assert writable == 0
    for query in (
        "select * from ops.batch",
        "select * from raw.customs_declarations",
        "select * from quarantine.record",
        "create table marts.mine (id int)",
        "create table public.mine (id int)",
        "create schema mine",
        "insert into marts.mart_one values (1, 1, 'x')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            read(query)


def test_grants_are_given_to_every_mart_and_asserted(sampan):
    number = release_one()
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute(f"revoke select on release_{number}.mart_two from bi_reader")
        release.grant(connection, f"release_{number}")
    assert read(f"select count(*) from release_{number}.mart_two") == [(50,)]


# --- disclosure classes (ADR 0033) --------------------------------------------------------------------------------------

CLASSED = {
    "mart_sme_360": "%(no)s::bigint as release_no, g as id, 'S' || g as sme_id",
    "mart_exports_monthly": "%(no)s::bigint as release_no, g as id, g as exporter_count",
    "mart_published_exports": "%(no)s::bigint as release_no, g as id, g as export_value_hkd",
    # No model describes it: it may be of an earlier version, with anything in it.
    "mart_forgotten": "%(no)s::bigint as release_no, g as id, 'S' || g as sme_id",
}
MAY_READ = {
    "bi_reader": set(CLASSED),
    "policy_reader": {"mart_exports_monthly", "mart_published_exports"},
    "public_reader": {"mart_published_exports"},
}


@pytest.fixture
def person(sampan) -> Iterator[Callable[[str], psycopg.Connection]]:
    """Opens a session of a new login that reads as a role, as `sampan roles add-login` makes it."""
    logins = []

    def opened(role: str) -> psycopg.Connection:
        login, password = f"reader_{secrets.token_hex(4)}", secrets.token_hex(16)
        made = sampan.cli("roles", "add-login", login, "--role", role, SAMPAN_LOGIN_PASSWORD=password)
        assert made.returncode == 0, made.stderr
        logins.append(login)
        dsn = make_conninfo(settings().dsn("admin"), user=login, password=password, options="")
        return psycopg.connect(dsn, autocommit=True)

    yield opened
    for login in logins:
        assert sampan.cli("roles", "drop-login", login).returncode == 0


def allowed(session: psycopg.Connection, schema: str, marts: Iterable[str]) -> set[str]:
    """The marts of a schema that the session may read."""
    found = set()
    for mart in marts:
        with suppress(psycopg.errors.InsufficientPrivilege):
            session.execute(f"select count(*) from {schema}.{mart}")
            found.add(mart)
    return found


@pytest.mark.parametrize("role", ["policy_reader", "public_reader"])
def test_a_reader_of_a_class_reads_its_marts_only_however_it_asks(role, sampan, person):
    older = release_one(columns=CLASSED)
    number = release_one(columns=CLASSED)
    with person(role) as session:
        assert allowed(session, "marts", CLASSED) == MAY_READ[role]
        tables = MAY_READ[role] if role == "policy_reader" else set()
        assert allowed(session, f"release_{number}", CLASSED) == tables
        assert allowed(session, f"release_{older}", CLASSED) == tables
        for attempt in (
            "set role bi_reader",
            "set role sampan_builder",
            "create view pg_temp.mine as select * from marts.mart_sme_360",
            "create schema mine",
            "copy (select * from marts.mart_sme_360) to stdout",
            "select pg_catalog.query_to_xml('select * from marts.mart_sme_360', true, true, '')",
            "table ops.batch",
            "select * from pg_statistic",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(attempt).fetchall()
        # Statistics of columns name the commonest values.
        stats = "select count(*) from pg_stats where tablename not in (select relname from pg_class where {})"
        assert session.execute(stats.format("has_table_privilege(oid, 'select')")).fetchone() == (0,)
        release.rollback(older)
        assert allowed(session, "marts", CLASSED) == MAY_READ[role]
        assert allowed(session, f"release_{older}", CLASSED) == tables


def test_a_mart_whose_class_became_stricter_is_closed_in_releases_that_are_kept(sampan, person, monkeypatch):
    older = release_one(columns=CLASSED)
    release_one(columns=CLASSED)
    with person("policy_reader") as session:
        assert "mart_exports_monthly" in allowed(session, f"release_{older}", CLASSED)
        classes = disclosure._class_names() | {"mart_exports_monthly": "row_level"}
        monkeypatch.setattr(disclosure, "_class_names", lambda: classes)
        release.rollback(older)
        assert allowed(session, "marts", CLASSED) == {"mart_published_exports"}
        assert allowed(session, f"release_{older}", CLASSED) == {"mart_published_exports"}


def test_the_comment_of_a_mart_says_whether_it_may_be_published(sampan):
    number = release_one(columns=CLASSED)
    for schema in ("marts", f"release_{number}"):
        said = dict(
            sampan.rows(
                "select relname, obj_description(oid, 'pg_class') from pg_class where relnamespace = to_regnamespace(%s)"
                " and relkind in ('r', 'v')",
                schema,
            )
        )
        assert said.keys() == CLASSED.keys()
        assert {mart: text.startswith("One row per id. Disclosure: ") for mart, text in said.items()} == dict.fromkeys(
            CLASSED, True
        )
        not_for_publication = {mart for mart, text in said.items() if text.endswith("not for publication.")}
        assert not_for_publication == set(CLASSED) - {"mart_published_exports"}
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as builder:
        release.grant(builder, "marts", f"release_{number}")
    assert sampan.one("select obj_description('marts.mart_sme_360'::regclass)", role="builder").count("Disclosure") == 1


# --- keeping ----------------------------------------------------------------------------------------------------------


def test_the_last_five_releases_stay_and_older_ones_are_dropped(sampan):
    numbers = [release_one() for _ in range(7)]
    assert [item["release_no"] for item in release.list_releases()] == numbers[:1:-1]
    schemas = {row[0] for row in sampan.rows("select nspname from pg_namespace where nspname like 'release_%%'")}
    assert schemas == {f"release_{number}" for number in numbers[2:]}
    with pytest.raises(PermanentFailure, match="is not kept"):
        release.rollback(numbers[0])


def test_a_mart_that_is_a_view_on_others_is_shown_and_dropped_with_them(sampan):
    number = make_build()
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute("create view build.mart_a_view as select * from build.mart_one where id > 1")
    assert release.run()["marts"] == len(COLUMNS) + 1
    assert read("select count(*) from marts.mart_a_view") == read("select count(*) - 1 from marts.mart_one")
    for _ in range(release.KEEP):
        release_one()
    assert sampan.one("select to_regnamespace(%s) is null", f"release_{number}")


def test_rollback_shows_the_release_before_and_the_next_release_goes_live(sampan):
    first, second, third = (release_one() for _ in range(3))
    assert release.rollback() == {"release_no": second, "before": third}
    assert shown() == {second}
    assert release.rollback() == {"release_no": first, "before": second}
    with pytest.raises(PermanentFailure, match="an earlier release is not kept"):
        release.rollback()
    assert release.rollback(third) == {"release_no": third, "before": first}
    assert release.rollback(third) == {"release_no": third, "before": third}
    fourth = release_one()
    assert shown() == {fourth}
    assert [text.split()[0] for text in release.show(third)["shown"]] == ["release", "rollback"]


def test_a_release_names_the_files_it_rests_on_without_those_of_failed_builds_and_deleted_ones(sampan):
    def take_in(number: int, name: str) -> int:
        query = (
            "with batch as (insert into ops.batch (feed, business_date, content_sha256, source_uri, landing_uri, bytes,"
            " received_at, contract_version) values ('f', '2026-07-06', %s, %s, 's3://landing/x', 1, now(), '1')"
            " on conflict (feed, business_date, content_sha256) do update set bytes = 1 returning batch_id)"
            " insert into ops.build_batch select %s, batch_id from batch"
        )
        with psycopg.connect(settings().dsn("loader")) as connection:
            connection.execute(query, [name * 64, f"s3://drop/{name}", number])
        return number

    def names(number: int) -> list[tuple]:
        query = "select source_uri, since_release_no from ops.release_batch where release_no = %s order by 1"
        return sampan.rows(query, number, role="builder")

    first = take_in(make_build(), "a")
    release.run()
    failed = take_in(make_build(passed=False), "b")
    with psycopg.connect(settings().dsn("builder")) as connection:
        build.abandon(connection, failed, Problem("release.gate", "it broke"))
        drop_relations(connection, "build")
        connection.execute("drop schema build")
    second = take_in(make_build(), "b")
    release.run()
    with psycopg.connect(settings().dsn("loader")) as connection:
        connection.execute("update ops.batch set deleted_at = clock_timestamp() where source_uri = 's3://drop/a'")
    third = release_one()
    assert names(first) == [("s3://drop/a", first)]
    assert names(failed) == []
    assert names(second) == [("s3://drop/a", first), ("s3://drop/b", second)]
    assert names(third) == [("s3://drop/b", second)]


def test_the_live_release_stays_when_it_is_older_than_the_last_five(sampan):
    first = release_one()
    with psycopg.connect(settings().dsn("bi")) as reader:
        read(f"select count(*) from release_{first}.mart_one", reader)
        for _ in range(5):
            release_one()
        release.rollback(first)
    release.run()
    assert shown() == {first}
    assert len(release.list_releases()) == 6


def test_a_release_that_a_reader_uses_is_dropped_the_next_time(sampan):
    first = release_one()
    with psycopg.connect(settings().dsn("bi")) as reader:
        read(f"select count(*) from release_{first}.mart_one", reader)
        for _ in range(6):
            release_one()
        assert first in {item["release_no"] for item in release.list_releases()}
    release_one()
    assert len(release.list_releases()) == 5
    assert sampan.one("select dropped_at is not null from ops.release where release_no = %s", first)


def test_a_release_that_a_view_stands_on_is_not_dropped(sampan):
    first = release_one()
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute("create schema others")
        connection.execute(f"create view others.standing as select * from release_{first}.mart_one")
    for _ in range(6):
        release_one()
    assert sampan.one("select count(*) from others.standing", role="builder") == 50


# --- crashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_release_is_whole_when_its_process_is_killed(sampan, failpoint):
    first = release_one()
    number = make_build()
    run_and_die("from sampan.marts import release; release.run()", failpoint)
    after_commit = failpoint in ("release.after_commit", "release.before_drop_commit")
    assert shown() == {number if after_commit else first}
    release.run()
    assert shown() == {number}
    assert [item["release_no"] for item in release.list_releases()] == [number, first]
    leftovers = (
        "select count(*) from pg_namespace where nspname in ('marts_next', 'build') or nspname like 'marts_before_%%'"
    )
    assert sampan.one(leftovers) == 0
    assert sampan.rows("select release_no, kind from ops.release_activation order by activation_no") == [
        (first, "release"),
        (number, "release"),
    ]
    assert release.run()["release_no"] == 0


@pytest.mark.parametrize("failpoint", ["release.before_swap", "release.after_swap"])
def test_rollback_is_whole_when_its_process_is_killed(sampan, failpoint):
    first, second = release_one(), release_one()
    run_and_die(f"from sampan.marts import release; release.rollback({first})", failpoint)
    assert shown() == {second}
    release.rollback(first)
    assert shown() == {first}
