"""Every feed that is asked from an API, from the simulated servers with all their quirks to raw."""

from __future__ import annotations

from collections import Counter
from datetime import date
from urllib.parse import urlsplit

import polars as pl
import pytest
from sampan.contracts.registry import all_contracts
from sampan.errors import TransientFailure
from sampan.ingest import fetch, gate, land, load, publish
from sampan.settings import settings

from infra.simulator import deliver, faults
from infra.simulator.orders import Order
from infra.simulator.partners import csd
from infra.simulator.partners.open_data import OpenData
from infra.simulator.population import make
from infra.simulator.serve import Behaviour, Server
from infra.simulator.world import World, periods

SEED, START, DAYS, SMES = 20260706, date(2026, 7, 6), 30, 400
APIS = [feed for feed, contract in all_contracts().items() if contract.source.kind == "api"]


@pytest.fixture(scope="module")
def simulation() -> World:
    return World(SEED, make(SEED, SMES), periods(START, DAYS))


@pytest.fixture
def served(sampan, monkeypatch):
    """Let every API be answered by a simulated server that behaves as told."""

    def serve(**behaviour):
        server = Server(Behaviour(SEED, order=Order(SEED, SMES, START, DAYS), **behaviour))
        base = server.url.removesuffix("/public")
        for contract in all_contracts().values():
            for request in contract.source.requests:
                monkeypatch.setenv(request.base_variable, base + urlsplit(request.base).path)
        settings.cache_clear()
        return server

    yield serve
    settings.cache_clear()


def ingest(feed: str, day: date | None = None) -> None:
    for step in (fetch, land, load, gate, publish):
        step.run(feed, day)


def test_every_api_comes_whole_to_raw(sampan, served, simulation, tmp_path):
    assert len(APIS) >= 8
    bucket = deliver.Bucket(settings().s3, settings().drop_bucket)
    names = ["business_register", "hkhs_codes"]
    deliver.run(bucket, seed=SEED, smes=SMES, start=START, days=DAYS, faults=faults.NONE, feeds=names, truth=tmp_path)
    ingest("business_register")
    servers = OpenData(simulation)
    with served() as server:
        for feed in APIS:
            ingest(feed, simulation.last)
            batch = sampan.batch(feed)
            assert (batch["state"], batch["rows_quarantined"]) == ("published", 0), (feed, batch["problem"])
            if feed != "hkma_exchange_rates":
                assert batch["rows_published"] == servers.expected(feed, simulation.last) > 0, feed
    paths = Counter(urlsplit(path).path for path in server.behaviour.asked)
    assert paths["/api/get"] > 180, "Trade-IDDS sends everybody on to an address of his own"
    # The edition of the year before is kept next to the downloaded one.
    for step in (land, load, gate, publish):
        step.run("hkhs_codes")
    editions = dict(
        sampan.rows("select extract(year from business_date), count(*) from raw.hkhs_codes join ops.batch on"
                    " batch_id = _batch_id group by 1")
    )  # fmt: skip
    assert editions == {2025: len(csd.edition(2025)), 2026: len(csd.edition(2026))}
    short = sampan.one("select count(*) from raw.hkhs_codes where length(hkhs_code) = 7")
    assert short > 5, "no code lost its zero"


def test_published_figures_in_raw_are_those_of_the_simulated_trade(sampan, served, simulation):
    with served():
        ingest("csd_trade_statistics", simulation.last)
    figures = {
        (flow, period, code, partner): (figure, unit)
        for flow, period, code, partner, figure, unit in sampan.rows(
            "select flow, period, code, partner, figure, unit from raw.csd_trade_statistics where source = 'trade_idds'"
        )
    }
    assert max(period for _, period, _, _ in figures) == "202607", "the current month is not published"
    truth = csd.published(simulation).filter(pl.col("month").is_between(pl.lit("202506"), pl.lit("202607")))
    wanted = {}
    for row in truth.iter_rows(named=True):
        wanted[(row["flow"], row["month"], row["chapter"], row["partner"])] = row["hkd_thousand"]
    assert figures.keys() == wanted.keys()
    kinds = Counter()
    for key, (figure, unit) in figures.items():
        if figure == "HK$'000":
            kinds["swapped"] += 1
            figure, unit = unit, figure
        kinds["nil" if figure == "-" else "commas" if "," in figure else "plain"] += 1
        assert unit == "HK$'000"
        assert (0 if figure == "-" else int(figure.replace(",", ""))) == wanted[key]
    assert min(kinds[kind] for kind in ("swapped", "nil", "commas", "plain")) > 0, kinds


@pytest.mark.parametrize("fault", ["failure", "usage_limit", "http_500", "not_json"])
def test_failures_that_pass_are_waited_out(sampan, served, fault):
    with served(fault=fault, times=2) as server:
        ingest("csd_insured_exports", START)
    assert sampan.batch("csd_insured_exports")["state"] == "published"
    assert len(server.behaviour.asked) == 3


@pytest.mark.parametrize("fault", ["failure", "usage_limit", "http_500", "not_json"])
def test_failures_that_stay_deliver_nothing(sampan, served, fault):
    with served(fault=fault), pytest.raises(TransientFailure):
        fetch.run("csd_trade_statistics", START)
    assert sampan.one("select count(*) from ops.delivery") == 0


def test_register_that_is_empty_asks_the_companies_registry_nothing(sampan, served):
    with served() as server:
        ingest("companies_registry", START)
    assert server.behaviour.asked == []
    assert sampan.batch("companies_registry")["state"] == "published"
    assert sampan.batch("companies_registry")["rows_in"] == 0


def test_staging_makes_values_of_figures(sampan, served, simulation):
    from sampan.marts import build

    with served():
        ingest("csd_trade_statistics", simulation.last)
        ingest("csd_insured_exports", simulation.last)
        ingest("comtrade_mirror_imports", simulation.last)
    build.run("staging")
    found = sampan.rows(
        "select to_char(month_start, 'YYYYMM'), flow, code, partner_iso2_code, value_hkd, figure_status"
        " from staging.stg_csd__trade_statistics where source = 'trade_idds'",
        role="builder",
    )
    flows = {"1": "import", "2": "domestic_export", "3": "re_export", "4": "total_export"}
    truth = csd.published(simulation).filter(pl.col("month").is_between(pl.lit("202506"), pl.lit("202607")))
    wanted = {
        (row["month"], flows[row["flow"]], row["chapter"], row["partner"]): row["hkd_thousand"] * 1000
        for row in truth.iter_rows(named=True)
    }
    assert {tuple(key): int(value) for *key, value, _ in found} == wanted
    totals = sampan.rows(
        "select to_char(month_start, 'YYYYMM'), flow, value_hkd / 1000000 from staging.stg_csd__trade_statistics"
        " where source = 'web_table' and figure_status = 'reported'",
        role="builder",
    )
    published = {(row["month"], row["sv"]): row["figure"] for row in csd.totals(simulation).iter_rows(named=True)}
    names = {"import": "VAL_IM", "total_export": "VAL_TX"}
    assert len(totals) > 20
    assert all(int(value) == published[(month, names[flow])] for month, flow, value in totals)
    statuses = Counter(status for *_, status in found)
    assert {"reported", "nil"} <= statuses.keys()
    open_month = "select count(*) from staging.stg_csd__trade_statistics where figure_status = 'not_available'"
    assert sampan.one(open_month, role="builder") == 2
    for model in ("stg_csd__insured_exports", "stg_comtrade__mirror_imports"):
        assert sampan.one(f"select count(*) from staging.{model}", role="builder") > 0
