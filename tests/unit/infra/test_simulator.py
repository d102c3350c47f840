"""The simulator: same seed, same bytes; deliveries have the shapes of their contracts; the record adds up."""

from __future__ import annotations

import io
import json
import urllib.request
from collections import Counter
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from sampan.calendar import is_business_day
from sampan.contracts.model import Contract
from sampan.contracts.registry import all_contracts
from sampan.reading.personal_data import Pseudonymiser, hkid_is_valid
from sampan.reading.reader import Reader
from stdnum.cn import uscc

from infra.simulator import deliver, faults, shapes
from infra.simulator.draws import number, rng
from infra.simulator.partners import customs, hkma, marks, openings, platforms, tid, traffic
from infra.simulator.population import hkids, make
from infra.simulator.serve import FAULTS, PATH, Behaviour, Server
from infra.simulator.world import World, monthly, periods
from tests.conftest import SHARED

SEED, START = 20260706, date(2026, 7, 6)
CONTRACTS = all_contracts()
# One worker runs them all: they share two windows of deliveries.
pytestmark = pytest.mark.xdist_group("simulator")

DROPPED = [feed for feed, contract in CONTRACTS.items() if contract.source.kind == "s3"]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    out = tmp_path_factory.mktemp("clean")
    return out, deliver.run(out, smes=300, days=4, faults=faults.NONE)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    out = tmp_path_factory.mktemp("faulty")
    return out, deliver.run(out, smes=600, days=30)


def _reader(contract: Contract, body: bytes, day: date) -> Reader:
    return Reader(contract, lambda: io.BytesIO(body), day, "test", Pseudonymiser(b"k" * 32, 1))


def _objects(outcome: deliver.Outcome, feed: str) -> list[dict]:
    return [entry for entry in outcome.planted if entry["feed"] == feed and "sha256" in entry]


def test_simulator_delivers_every_feed_that_is_dropped():
    assert set(deliver.FEEDS) == set(DROPPED)


def test_deliver_writes_the_same_bytes_when_the_seed_is_the_same(tmp_path):
    def shas(name: str, seed: int) -> dict[str, str]:
        outcome = deliver.run(tmp_path / name, seed=seed, smes=60, days=2)
        return {entry["key"]: entry["sha256"] for entry in outcome.planted if "sha256" in entry}

    first = shas("a", 1)
    assert len(first) > 15
    assert shas("b", 1) == first
    others = shas("c", 2)
    assert all(others[key] != sha for key, sha in first.items() if "customs" in key or "platform" in key)


def test_deliver_writes_the_same_bytes_when_it_is_given_some_feeds_only(tmp_path, clean):
    _, everything = clean
    outcome = deliver.run(tmp_path, smes=300, days=4, faults=faults.NONE, feeds=["customs_declarations"])
    wanted = [entry["sha256"] for entry in _objects(everything, "customs_declarations")]
    assert [entry["sha256"] for entry in _objects(outcome, "customs_declarations")] == wanted
    assert {entry["feed"] for entry in outcome.planted} == {"customs_declarations"}


@pytest.mark.parametrize("feed", DROPPED)
def test_deliver_writes_what_the_contract_describes_when_there_are_no_faults(feed, clean):
    out, outcome = clean
    contract, seen = CONTRACTS[feed], 0
    for entry in _objects(outcome, feed):
        path = out / "drop" / entry["key"]
        assert entry["key"].startswith(f"{contract.drop_prefix}{entry['business_date']}/")
        reader = _reader(contract, path.read_bytes(), date.fromisoformat(entry["business_date"]))
        assert {column.name for column in reader.layout.stored} == {column.name for column in contract.stored}
        assert not [entry for entry in reader.layout.drift if entry[0] != "renamed"]
        records = list(reader.records())
        assert not [record for record in records if record.broken]
        assert len(records) == entry["rows_in"]
        seen += len(records)
    assert seen > 0
    assert outcome.rows(feed) == seen


def test_headings_follow_announced_renamings():
    contract = CONTRACTS["customs_declarations"]
    alias = contract.aliases[0]
    before, since = date(2026, 7, 17), date(2026, 7, 20)
    assert shapes.headings(contract, before)[alias.column] == alias.column
    assert shapes.headings(contract, since)[alias.column] == alias.source_name


def test_deliver_records_counts_that_add_up_when_there_are_faults(faulty):
    _, outcome = faulty
    published = [entry for entry in outcome.planted if entry["expected"] == "published"]
    assert {entry["feed"] for entry in published} == set(CONTRACTS)
    for entry in published:
        parts = entry["rows_published"], entry["rows_quarantined"], entry["rows_duplicate"]
        assert entry["rows_in"] == sum(parts)
        assert entry["rows_quarantined"] <= CONTRACTS[entry["feed"]].budget * entry["rows_in"]
    for feed in DROPPED:
        assert outcome.rows(feed) > 0
        truth = pl.read_parquet(outcome.truth / "published" / f"{feed}.parquet")
        assert len(truth) == outcome.rows(feed)
        assert set(truth.columns) == {c.name for c in CONTRACTS[feed].stored} | {"_line", "_business_date", "_sha256"}
    dirty = pl.read_parquet(outcome.truth / "dirty.parquet")
    held = {e["sha256"] for e in outcome.planted if e["expected"] == "held" and e["rows_quarantined"]}
    quarantined = Counter(dirty["sha256"].to_list())
    for entry in outcome.planted:
        if (entry["expected"] == "published" and "sha256" in entry) or entry.get("sha256") in held:
            assert quarantined[entry["sha256"]] == entry["rows_quarantined"]


def test_deliver_shows_each_event_of_the_demo_when_the_window_is_the_default(faulty):
    _, outcome = faulty
    events = Counter(event for entry in outcome.planted for event in entry["events"])
    for event in (
        "held",
        "resent",
        "repeated",
        "amended",
        "late",
        "missing",
        "truncated",
        "added",
        "dirty",
        "correction",
    ):
        assert events[event] >= 1, event
    # The truncated and the held delivery, twice in 30 business dates.
    assert sum(entry["expected"] == "held" for entry in outcome.planted) == 4
    assert len(outcome.planted) > 200


def test_an_amendment_always_changes_something(tmp_path):
    """Kind of fault: the same content twice, which the ledger knows, is recorded as a publication of its own."""
    deliver.run(tmp_path, smes=60, days=8, faults=faults.parse("amended=1.0"))
    planted = [json.loads(line) for line in (tmp_path / "truth" / "planted.jsonl").read_text().splitlines()]
    contents = Counter(
        (e["feed"], e["business_date"], e["sha256"]) for e in planted if e["expected"] == "published" and "sha256" in e
    )
    amended = {e["feed"] for e in planted if "amended" in e["events"]}
    assert len(amended) > 5
    assert [content for content, count in contents.items() if count > 1] == []


@pytest.mark.parametrize("feed", DROPPED)
def test_every_kind_of_bad_row_can_be_planted(feed):
    contract = CONTRACTS[feed]
    kinds = {item.kind for item in faults.inventory(contract)}
    assert {"missing", "row_rule", "malformed", "unknown_code"} <= kinds
    assert len(faults.inventory(contract)) > 20
    rules = {item.rule for item in faults.inventory(contract)}
    assert {rule.name for rule in contract.row_rules if rule.severity == "error"} <= rules


def test_faults_are_parsed_and_refused_when_they_are_unknown():
    assert faults.parse("none") == faults.NONE
    assert faults.parse("dirty=0.01,late=0.5") == faults.Faults(dirty=0.01, late=0.5)
    with pytest.raises(ValueError, match="no fault 'wrong'"):
        faults.parse("wrong=1")


def test_no_application_has_the_number_of_another_month(monkeypatch):
    """Kind of fault: more in a month than its numbers, which then are those of the next one, as with 360,000 SMEs."""
    world = World(SEED, make(SEED, 400), monthly(START, START))
    assert tid.applications(world)["application_no"].is_unique().all()
    monkeypatch.setattr(tid, "NUMBERS_OF_A_MONTH", 2)
    with pytest.raises(ValueError, match="more than the 2 numbers of a month"):
        tid.applications(World(SEED, make(SEED, 400), monthly(START, START)))


def test_periods_cover_every_day_once():
    window = periods(START, 30)
    assert window[-1].business_date == date(2026, 8, 14)
    days = [day for period in window for day in period.days]
    # The weekend before belongs to the first business date, so the 28 days before the festival are all there.
    assert days[0] == date(2026, 7, 4)
    assert days == [date.fromordinal(days[0].toordinal() + step) for step in range(len(days))]


def test_population_has_valid_numbers_that_were_never_issued():
    smes = make(SEED, 2000).smes
    assert smes["brn"].n_unique() == 2000
    assert smes.filter(pl.col("brn").str.contains("^9[0-9]{7}$")).height > 1950
    assert all(uscc.is_valid(code) for code in smes["operator_uscc"][:200])
    numbers = hkids(rng(SEED, "test"), 200)
    assert all(hkid_is_valid(number) for number in numbers)
    # Letters under which no HKID number was issued.
    assert set(numbers.str.slice(0, 1)) <= set("IOQUX")
    assert smes.filter(pl.col("name_en").is_null() & pl.col("name_zh").is_null()).is_empty()
    assert 0.1 < smes["is_applicant"].mean() < 0.4
    assert smes["size_class"].n_unique() >= 3


def test_festival_lifts_the_orders_of_those_who_take_part():
    world = World(SEED, make(SEED, 4000), periods(START, 30))
    part = platforms.takes_part(world, "HKSF-2026")
    before = sum(platforms.demand(world, date(2026, 7, day)) for day in range(6, 27))
    during = sum(platforms.demand(world, date(2026, 8, day)) for day in range(3, 24))
    ratio = during / before
    assert ratio[part].mean() == pytest.approx(platforms.FESTIVAL_UPLIFT, rel=0.03)
    assert ratio[~part].mean() == pytest.approx(platforms.FESTIVAL_SPILL, rel=0.03)


def test_live_streams_move_orders_between_days_and_no_shop_sells_before_it_opens():
    world = World(SEED, make(SEED, 3000), monthly(date(2025, 1, 1), date(2025, 12, 31)))
    days = [world.first + timedelta(days=step) for step in range(365)]
    expected = np.array([platforms.expected_orders(world, day) for day in days])
    planned = np.array([platforms.demand(world, day) for day in days])
    live = np.array([platforms.live_sessions(world, day) for day in days]) > 0
    opened = openings.opens(world)
    there = opened == 0
    assert expected[:, there].sum() == pytest.approx(planned[:, there].sum(), rel=0.01)
    factor = (expected / planned)[:, there]
    assert factor[live[:, there]].min() > 1 > factor[~live[:, there]].max()
    ordinary = np.array([day.month != 8 for day in days])
    assert live[ordinary].mean() == pytest.approx(1 - np.exp(-platforms.SESSIONS_A_DAY), rel=0.05)
    later = (opened > number(world.first)) & (opened < openings.NEVER)
    assert later.sum() > 10
    closed = np.array([number(day) for day in days])[:, None] < opened
    assert expected[closed].sum() == 0 < expected[~closed].min()


def test_what_is_paid_in_live_streams_is_part_of_what_is_paid():
    world = World(SEED, make(SEED, 1000), monthly(date(2025, 7, 1), date(2025, 8, 31)))
    orders = pl.concat([frame for _, frame in platforms.platform_orders(world)])
    paid = (
        orders.filter(pl.col("pay_time").is_not_null())
        .unique("oid")
        .group_by("platform", "store_id", stat_date=pl.col("created").str.slice(0, 10).str.to_date())
        .agg(paid=pl.col("payment").cast(pl.Float64).sum())
    )
    counted = pl.concat([frame for _, frame in traffic.platform_traffic(world) if frame is not None])
    live = counted.filter(pl.col("live_payment_cny") > 0)
    both = live.join(paid, on=["platform", "store_id", "stat_date"], how="left")
    assert len(both) > 100
    # One order in eight is never paid: where it is the only one of its day, nothing is paid.
    assert (both["live_payment_cny"] > both["paid"].fill_null(0)).mean() < 0.1
    assert both["live_payment_cny"].sum() < 0.6 * both["paid"].sum()


def test_festival_orders_stay_with_those_who_took_part_and_fade():
    world = World(SEED, make(SEED, 3000), monthly(date(2025, 7, 1), date(2026, 1, 31)))
    part, last = platforms.takes_part(world, "HKSF-2025"), date(2025, 8, 31)
    assert 0.3 * world.population.smes["in_festival"].sum() < part.sum() < part.size

    def a_day(first: int, days: int) -> np.ndarray:
        orders = [platforms.demand(world, last + timedelta(days=first + step)) for step in range(days)]
        return np.mean(orders, axis=0)[part].mean()

    before = a_day(-58, 28)
    factors = [factor for _, factor in platforms.RETAINED_UPLIFT]
    stays = [a_day(1, 28) / before, a_day(31, 56) / before, a_day(91, 28) / before]
    assert stays == pytest.approx([*factors, 1.0], rel=0.02)


def test_marks_are_renewed_until_the_end_of_the_window_or_end():
    world = World(SEED, make(SEED, 2000), monthly(date(2024, 7, 1), date(2026, 11, 30)))
    terms = marks.terms(world).sort("certificate_no", "term")
    following = pl.col("valid_from").shift(-1).over("certificate_no")
    assert terms.filter(following <= pl.col("valid_to")).is_empty()
    last = terms.group_by("certificate_no").agg(pl.col("valid_to").last(), pl.col("renewals").last())
    renewed = last.filter(pl.col("renewals") > 0)
    assert (renewed["valid_to"] > world.last).all()
    valid = last.filter(pl.col("valid_to").is_null() | (pl.col("valid_to") >= world.last))
    assert 0.5 < len(valid) / len(last) < 0.95
    register = pl.concat([frame for _, frame in marks.quality_marks(world) if frame is not None])
    assert register.select("scheme", "certificate_no", "status_at").is_duplicated().sum() == 0


def test_amendments_raise_the_version_and_keep_the_lines():
    world = World(SEED, make(SEED, 1500), periods(START, 12))
    lines = pl.concat([frame for _, frame in customs.declarations(world)])
    per_version = lines.group_by("declaration_no", "version").agg(pl.col("line_no").sort())
    amended = per_version.filter(pl.col("version") > 1).join(
        per_version.filter(version=1), on="declaration_no", suffix="_first"
    )
    assert len(amended) > 5
    assert (amended["line_no"] == amended["line_no_first"]).all()
    assert lines.select("declaration_no", "version", "line_no").is_duplicated().sum() == 0


def test_bench_lines_are_distinct_and_as_many_as_asked_for():
    frame = pl.concat(customs.bench_lines(SEED, 30_000, START, chunk=20_000))
    assert len(frame) == 30_000
    assert frame.select("declaration_no", "version", "line_no").is_duplicated().sum() == 0
    assert frame.columns == [column.source_name for column in CONTRACTS["customs_declarations"].columns]


# --- the API ----------------------------------------------------------------------------------------------------------


def _get(server: Server, **parameters: str) -> dict:
    query = "&".join(f"{key}={value}" for key, value in parameters.items())
    with urllib.request.urlopen(f"{server.url}{PATH}?{query}") as response:
        return json.load(response)


def test_rates_have_the_keys_of_the_published_answer():
    captured = SHARED / "hkma_er_eeri_daily_2026-02.json"
    record = hkma.records(SEED, date(2026, 7, 6), date(2026, 7, 6))[0]
    assert set(record) == {column.source_name for column in CONTRACTS["hkma_exchange_rates"].columns}
    if captured.exists():
        real = json.loads(captured.read_text())["result"]["records"][0]
        assert list(record) == list(real)
        assert {key for key, value in record.items() if value is None} == {
            key for key, value in real.items() if value is None and key != "special_drawing_rights"
        }


def test_rates_are_plausible_and_mostly_of_business_days():
    records = hkma.records(SEED, date(2025, 7, 1), date(2026, 8, 14))
    days = [date.fromisoformat(record["end_of_day"]) for record in records]
    assert days == sorted(days, reverse=True)
    assert all(is_business_day(day) or day.weekday() == 5 for day in days)
    assert 0 < sum(day.weekday() == 5 for day in days) < 15
    assert all(7.75 <= record["usd"] <= 7.85 for record in records)
    assert all(1.05 < record["cny"] < 1.25 for record in records)
    assert any(len(repr(record["usd"])) > 10 for record in records), "no floating point noise"


def test_server_pages_as_the_api_does():
    with Server(Behaviour(SEED)) as server:
        window = {"from": "2026-06-01", "to": "2026-07-31", "choose": "end_of_day"}
        everything = _get(server, pagesize="1000", **window)["result"]["records"]
        first = _get(server, pagesize="20", offset="0", **window)["result"]
        second = _get(server, pagesize="20", offset="20", **window)["result"]
        assert len(everything) > 40
        assert first["records"] + second["records"] == everything[:40]
        assert first["datasize"] == 20
        oldest_first = _get(server, pagesize="1000", sortorder="asc", **window)["result"]["records"]
        assert oldest_first == everything[::-1]


@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in ("slow", "none")])
def test_server_fails_once_when_it_is_told_to(fault):
    behaviour = Behaviour(SEED, fault=fault, times=1, datasize="whole", max_pagesize=10)
    window = {"from": "2026-06-01", "to": "2026-07-31", "offset": "10"}
    with Server(behaviour) as server:
        sound = Server(Behaviour(SEED, datasize="whole", max_pagesize=10))
        with sound:
            wanted = _get(sound, **window)
        try:
            failed = _get(server, **window)
        except (OSError, ValueError) as error:
            failed = {"error": str(error)}
        assert failed != wanted
        assert _get(server, **window) == wanted
    assert len(behaviour.asked) == 2
