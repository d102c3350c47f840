"""What the platform made of simulated deliveries, compared with what the simulator planted."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import polars as pl
import pytest
from sampan.contracts.registry import all_contracts, get_contract
from sampan.ingest import fetch, gate, land, load, publish
from sampan.settings import settings

from infra.simulator import deliver, faults
from infra.simulator.orders import Order
from infra.simulator.serve import Behaviour, Server

SEED, START, DAYS = 20260706, date(2026, 7, 6), 10
HEADINGS = ("renamed", "added")


def test_ingest_finds_every_planted_fault_when_a_window_is_delivered(sampan, tmp_path):
    bucket = deliver.Bucket(settings().s3, settings().drop_bucket)
    rates = replace(faults.DEFAULT, dirty=0.02, duplicate=0.004, contradicting=0.002)
    outcome = deliver.run(bucket, seed=SEED, smes=800, start=START, days=DAYS, faults=rates, truth=tmp_path / "truth")
    for feed, entry in all_contracts().items():
        if entry.source.kind == "s3":
            for step in (fetch, land, load, gate, publish):
                step.run(feed)
    _ledger_agrees(sampan, outcome)
    _each_planted_row_is_quarantined_for_its_rule(sampan, outcome)
    _raw_holds_exactly_the_planted_rows(sampan, outcome)


@pytest.mark.slow
def test_no_row_breaks_a_rule_when_a_history_is_delivered_without_faults(sampan, tmp_path):
    """Kind of fault: a world that begins years before it was drawn for has businesses that end before they begin."""
    order = Order(SEED, 400, date(2026, 8, 3), 2, date(2024, 3, 1), volume=0.3)
    bucket = deliver.Bucket(settings().s3, settings().drop_bucket)
    outcome = deliver.deliver(bucket, order.world(), faults=faults.NONE, truth=tmp_path / "truth")
    for feed, entry in all_contracts().items():
        if entry.source.kind == "s3":
            for step in (fetch, land, load, gate, publish):
                step.run(feed)
    _ledger_agrees(sampan, outcome)
    assert sampan.rows("select feed, broken_rules, count(*) from quarantine.record group by 1, 2") == []
    assert sampan.one("select count(distinct feed) from ops.batch where rows_published > 0") >= len(deliver.FEEDS)


def _ledger_agrees(sampan, delivered):
    batches = {
        (feed, str(day), sha): (state, rows, published, quarantined, duplicate, (problem or {}).get("rule"))
        for feed, day, sha, state, rows, published, quarantined, duplicate, problem in sampan.rows(
            "select feed, business_date, content_sha256, state, rows_in, rows_published, rows_quarantined,"
            " rows_duplicate, problem from ops.batch"
        )
    }
    planted = [entry for entry in delivered.planted if "sha256" in entry]
    assert len(planted) >= len(deliver.FEEDS)
    wrong = []
    for entry in planted:
        found = batches.get((entry["feed"], entry["business_date"], entry["sha256"]))
        if entry["expected"] == "published":
            wanted = tuple(
                entry[name] for name in ("expected", "rows_in", "rows_published", "rows_quarantined", "rows_duplicate")
            )
            if found is None or found[:5] != wanted:
                wrong.append((entry["key"], wanted, found))
        elif entry["expected"] == "held" and (found is None or (found[0], found[5]) != ("held", entry["reason"])):
            wrong.append((entry["key"], entry["reason"], found))
    assert not wrong
    assert len(batches) == len({(e["feed"], e["business_date"], e["sha256"]) for e in planted})


def _each_planted_row_is_quarantined_for_its_rule(sampan, delivered):
    broken: dict[tuple[str, str, str, int], list[str]] = {
        (feed, str(day), sha, line): rules
        for feed, day, sha, line, rules in sampan.rows(
            "select q.feed, business_date, content_sha256, line, broken_rules"
            " from quarantine.record q join ops.batch using (batch_id)"
        )
    }
    planted = pl.read_parquet(delivered.truth / "dirty.parquet").to_dicts()
    assert len(planted) > 200
    missed = [
        (mark, broken.get((mark["feed"], mark["business_date"], mark["sha256"], mark["line"])))
        for mark in planted
        if mark["rule"] not in broken.get((mark["feed"], mark["business_date"], mark["sha256"], mark["line"]), ())
    ]
    assert not missed
    assert len(broken) == len({(m["feed"], m["business_date"], m["sha256"], m["line"]) for m in planted})


def _raw_holds_exactly_the_planted_rows(sampan, delivered):
    compared = 0
    for feed, entry in all_contracts().items():
        if entry.source.kind == "api":
            continue
        truth = pl.read_parquet(delivered.truth / "published" / f"{feed}.parquet")
        wanted = {
            (str(day), sha, line): key
            for day, sha, line, *key in truth.select(
                "_business_date", "_sha256", "_line", *[pl.col(name).cast(pl.String) for name in entry.key]
            ).iter_rows()
        }
        columns = ", ".join(
            f"to_char({name}, 'YYYY-MM-DD HH24:MI:SS')" if entry.column(name).type == "timestamptz" else f"{name}::text"
            for name in entry.key
        )
        found = {
            (str(day), sha, line): list(key)
            for day, sha, line, *key in sampan.rows(
                f"select business_date, content_sha256, _line, {columns} from raw.{feed}"
                " join ops.batch on batch_id = _batch_id"
            )
        }
        for key in wanted.values():
            for position, name in enumerate(entry.key):
                if entry.column(name).type == "timestamptz":
                    key[position] = key[position][:19].replace("T", " ")
        assert found == wanted, feed
        compared += len(found)
    assert compared > 15_000


@pytest.mark.slow
def test_ingest_quarantines_a_bad_row_for_its_rule_when_every_kind_is_planted(sampan, tmp_path):
    bucket = deliver.Bucket(settings().s3, settings().drop_bucket)
    outcome = deliver.run(
        bucket, seed=SEED, smes=6000, start=START, days=1, faults=faults.parse("held=1"), truth=tmp_path / "truth"
    )
    feeds = [feed for feed, entry in all_contracts().items() if entry.source.kind == "s3"]
    for feed in feeds:
        for step in (fetch, land, load, gate, publish):
            step.run(feed)
    _ledger_agrees(sampan, outcome)
    _each_planted_row_is_quarantined_for_its_rule(sampan, outcome)
    planted = pl.read_parquet(outcome.truth / "dirty.parquet")
    for feed in feeds:
        shown = set(planted.filter(feed=feed).select("kind", "column", "rule").rows())
        kinds = {(item.kind, item.column, item.rule) for item in faults.inventory(get_contract(feed))}
        assert kinds <= shown, (feed, sorted(map(str, kinds - shown)))
        assert len(kinds) > 20


# The window above has each of them, too, in a few deliveries.
@pytest.mark.slow
@pytest.mark.parametrize("event", ["truncated", "resent", "renamed", "added", "repeated"])
def test_ledger_agrees_when_an_event_happens_to_every_delivery(sampan, tmp_path, event):
    bucket = deliver.Bucket(settings().s3, settings().drop_bucket)
    outcome = deliver.run(
        bucket, seed=SEED, smes=600, start=START, days=1, faults=faults.parse(f"{event}=1"), truth=tmp_path / "truth"
    )
    # A file of fixed width has no headings that could change.
    able = {feed for feed in deliver.FEEDS if all_contracts()[feed].source.format != "fixed" or event not in HEADINGS}
    assert {entry["feed"] for entry in outcome.planted if event in entry["events"]} == able
    assert len(able) >= 15
    for feed in deliver.FEEDS:
        for step in (fetch, land, load, gate, publish):
            step.run(feed)
    _ledger_agrees(sampan, outcome)


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        pytest.param({}, 1, id="plain"),
        pytest.param({"fault": "failure", "times": 2}, 1, id="success-false-twice"),
        pytest.param({"fault": "http_500", "times": 1}, 1, id="http-500-once"),
        pytest.param({"fault": "not_json", "times": 1}, 1, id="html-once"),
        pytest.param({"datasize": "whole", "max_pagesize": 100}, 1, id="small-pages"),
        pytest.param({"fault": "repeated_page", "datasize": "whole", "max_pagesize": 100}, 0, id="repeated-page"),
        pytest.param({"fault": "changing_total", "datasize": "whole", "max_pagesize": 100}, 0, id="changing-total"),
        pytest.param({"fault": "failure"}, 0, id="success-false-always"),
    ],
)
def test_fetch_takes_rates_whole_or_not_when_the_api_fails(
    sampan, monkeypatch, behaviour: dict[str, Any], outcome: int
):
    from sampan.errors import TransientFailure

    from infra.simulator.partners.hkma import records

    with Server(Behaviour(SEED, **behaviour)) as server:
        monkeypatch.setenv("SAMPAN_HKMA_URL", server.url)
        settings.cache_clear()
        if not outcome:
            with pytest.raises(TransientFailure):
                fetch.run("hkma_exchange_rates", START)
            return
        for step in (fetch, land, load, gate, publish):
            step.run("hkma_exchange_rates", START)
    found = dict(sampan.rows("select end_of_day, cny from raw.hkma_exchange_rates"))
    back = int(get_contract("hkma_exchange_rates").source.requests[0].parameters["from"].strip("{}")[13:])
    wanted = records(SEED, date.fromordinal(START.toordinal() + back), START)
    assert {str(day): float(rate) for day, rate in found.items()} == {r["end_of_day"]: r["cny"] for r in wanted}
    assert len(found) > 200
