"""Reconciliation, revisions and the editions of the HKHS in the simulated world, against what was planted there."""

from __future__ import annotations

import polars as pl
import pytest

from infra.simulator import vocabulary as words
from infra.simulator.partners import csd
from tests.integration.marts.answers.reconciliation import declared_lines, insured
from tests.integration.world import Simulated

pytestmark = pytest.mark.xdist_group("world")


def test_trade_reconciliation_has_the_planted_difference_when_a_year_is_comparable(world: Simulated):
    found = world.read(
        "select flow, sum(declared_hkd), sum(published_hkd) from marts.mart_trade_reconciliation"
        " where comparability = 'comparable' and goods = 'merchandise' and published_source = 'bulk_hsccit'"
        " and flow <> 'total_export' group by flow order by flow"
    )
    assert [flow for flow, *_ in found] == ["domestic_export", "import", "re_export"]
    low, high = csd.ESTIMATED_ON_TOP
    for flow, declared, published in found[1:]:
        # Amendments move single declarations by up to three tenths, either way.
        assert low - 0.005 < float(published / declared) - 1 < high + 0.005, flow
    declared = sum(float(value) for _, value, _ in found)
    # Persons are in no mart one by one.
    (everything,) = world.read("select sum(value_hkd) from marts.mart_sme_trade_monthly")[0]
    assert declared < float(everything)
    of_enterprises = declared_lines(world).filter(~pl.col("is_person") & (pl.col("goods") == "merchandise"))
    assert float(everything) == pytest.approx(of_enterprises["value"].sum())


def test_insured_export_reconciliation_is_close_when_the_financial_year_is_whole(world: Simulated):
    found = world.read(
        "select financial_year, declared_hkd, published_hkd, gap_pct, band from marts.mart_insured_export_reconciliation"
        " where product_code = 'TOTAL' and is_quotable"
    )
    ((year, declared, published, gap_pct, band),) = found
    assert (year, band) == (2026, "close")
    in_year = pl.col("month").is_between(pl.date(2025, 4, 1), pl.date(2026, 3, 1))
    assert float(declared) == pytest.approx(insured(world).filter(in_year)["value"].sum())
    planted = csd.insured(world.truth).filter(pl.col("year") == "2026")["figure"].sum()
    assert float(published) == pytest.approx(planted * 1e6)
    assert float(gap_pct) == pytest.approx(-100 * csd.INSURED_ON_TOP / (1 + csd.INSURED_ON_TOP), abs=0.2)


def test_trade_revisions_end_with_what_the_marts_say(world: Simulated):
    found = world.read(
        "select movement_month, flow, max(revision_no), sum(value_hkd) filter (where is_latest),"
        " count(*) filter (where is_latest)"
        " from marts.mart_trade_revisions where series = 'declared' group by movement_month, flow"
    )
    wanted = {
        (month, flow): value
        for month, flow, value in declared_lines(world)
        .filter(pl.col("goods") == "merchandise")
        .group_by("month", "flow")
        .agg(pl.col("value").sum())
        .iter_rows()
    }
    assert {(month, flow) for month, flow, *_ in found} == set(wanted)
    for month, flow, _, value, latest in found:
        assert (latest, float(value)) == (1, pytest.approx(wanted[(month, flow)], abs=0.01)), (month, flow)
    assert max(revisions for _, _, revisions, *_ in found) >= 3


def test_hkhs_concordance_has_the_planted_changes_both_ways(world: Simulated):
    rows = world.read(
        "select mapping_direction, from_code, to_code, relation, weight, weight_basis from marts.dim_hkhs_concordance"
        " where relation <> 'kept'"
    )
    found = {
        (direction, code, other): (relation, float(weight)) for direction, code, other, relation, weight, _ in rows
    }
    before, since = (pl.DataFrame([entry[side] for entry in words.HKHS_CHANGES]) for side in (0, 1))
    changes = {(entry[0], entry[1]) for entry in words.HKHS_CHANGES}
    assert len(before) == len(since) == len(changes)
    assert {(code, other) for direction, code, other in found if direction == "forward"} == changes
    assert {(other, code) for direction, code, other in found if direction == "backward"} == changes
    for code, other, share in words.HKHS_CHANGES:
        relation, weight = found[("forward", code, other)]
        assert relation in {"renumbered", "split", "merged"}
        assert weight == pytest.approx(share, abs=0.1), (code, other)
    # Of the code that toys are under now, each of the two before it has the part that it had of the trade.
    sums = world.frames["csd_bulk_hsccit"].filter(
        (pl.col("record_type") == "1")
        & pl.col("hs_code").is_in(["95030010", "95030090"])
        & (pl.col("business_date").dt.year() == 2025)
    )
    values = [pl.col(f"{flow}_value_hkd").cast(pl.Float64) for flow in ("import", "domestic_export", "re_export")]
    parts = dict(sums.group_by("hs_code").agg(pl.sum_horizontal(values).sum()).iter_rows())
    for code, value in parts.items():
        weight = found[("backward", "95030000", code)][1]
        assert weight == pytest.approx(value / sum(parts.values()))
    uneven = world.read(
        "select count(*) from (select sum(weight) as weight from marts.dim_hkhs_concordance"
        " group by mapping_direction, from_edition, to_edition, from_code) as sums where abs(weight - 1) > 0.000000001"
    )
    assert uneven == [(0,)]


def test_hkhs_coverage_reports_a_declared_code_when_no_edition_has_it(world: Simulated):
    found = world.read("select edition_year, hkhs_code, code_status from marts.mart_hkhs_coverage")
    lines = world.frames["customs_declarations"]
    year = pl.col("movement_date").cast(pl.String).str.slice(0, 4).cast(pl.Int64)
    declared = set(lines.select(year, "hkhs_code").unique().iter_rows())
    assert {(year, code) for year, code, _ in found} == declared
    editions = world.frames["hkhs_codes"].select(
        pl.col("business_date").dt.year().alias("year"), pl.col("hkhs_code").str.zfill(8)
    )
    listed = set(editions.unique().iter_rows())
    years = {year for year, _ in listed}
    for year, code, status in found:
        assert (status == "in_edition") == ((year, code) in listed), (year, code, status)
        assert (status == "edition_not_there") == (year not in years), (year, code, status)
    assert sum(status == "in_edition" for _, _, status in found) > 50
