"""Declared trade: what is late by a calendar that becomes known later, what is missing, and the coverage of marts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime

import pytest
from sampan.calendar import HONG_KONG
from sampan.contracts.registry import get_contract
from sampan.ingest import freshness
from sampan.marts import build, release
from sampan.settings import settings

from tests.conftest import Sampan
from tests.factory import encode, rows
from tests.integration.marts.test_build import spine
from tests.integration.published import publish
from tests.integration.world import Simulated

FEED = "customs_declarations"
MONDAY, DUE = date(2026, 7, 6), date(2026, 7, 20)


@pytest.fixture
def merging(
    sampan: Sampan, models_only: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """So little data is always mostly new: builds merge anyway."""
    monkeypatch.setenv("SAMPAN_STATE", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setattr(build, "FULL_REFRESH_SHARE", 2)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.slow
def test_a_declaration_is_judged_again_when_a_closure_becomes_known_later(sampan: Sampan, merging: None):
    def late(number: str) -> int:
        row = {"declaration_no": number, "trader_id": "90000002", "lodged_at": "2026-07-22 09:00"}
        publish(FEED, "2026-07-22", [row])
        spine()
        query = "select sum(late_declaration_count) from intermediate.int_trade__monthly where trader_id = '90000001'"
        return int(sampan.one(query, role="builder"))

    first = {"declaration_no": "DDDDDDDD01", "trader_id": "90000001", "movement_date": MONDAY}
    publish(FEED, "2026-07-21", [first | {"lodged_at": "2026-07-21 09:00"}])
    # A day closed for one feed is not a day of gale or black rainstorm: the 14th day is a Monday, and one day late is late.
    freshness.close([DUE], "office moved", "an operator", FEED)
    assert late("DDDDDDDD02") == 1
    freshness.close([DUE], "signal No. 10", "an operator")
    assert late("DDDDDDDD03") == 0
    assert freshness.reopen(DUE)
    assert late("DDDDDDDD04") == 1


@pytest.mark.slow
def test_marts_say_which_declarations_miss_lines_until_these_arrive(sampan: Sampan, merging: None):
    contract = get_contract(FEED)
    usual = next(row for row in rows(FEED, 60, MONDAY) if row["form_type"] == "2") | {
        "declaration_no": "DDDDDDDD01",
        "version": "1",
        "trader_id": "90000001",
        "trader_name": "Synthetic Trading Limited",
        "movement_date": "2026-07-03",
        "lodged_at": "2026-07-06 09:00",
        "value_hkd": "100.00",
        "hkhs_code": "85171300",
    }
    line = {number: usual | {"line_no": str(number)} for number in (1, 2)}

    def shown(day: date, given: list[dict[str, str | None]]) -> tuple[tuple[object, ...], tuple[object, ...]]:
        sampan.deliver(FEED, day, f"lines.{contract.source.extension}", encode(contract, rows(FEED, 60, day) + given))
        sampan.ingest(FEED)
        freshness.set_clock(datetime(day.year, day.month, day.day + 1, 12, tzinfo=HONG_KONG))
        build.run()
        release.gate()
        release.run()
        (trade,) = sampan.rows(
            "select sum(value_hkd), sum(line_count), sum(missing_line_count), sum(declaration_count)"
            " from marts.mart_sme_trade_monthly join marts.dim_sme using (sme_id) where brn = '90000001'",
            role="bi",
        )
        (quality,) = sampan.rows(
            "select quarantine_open_count, quarantine_open_value, quarantine_open_unit, incomplete_document_count"
            " from marts.mart_data_quality where feed = 'customs_declarations'",
            role="bi",
        )
        return trade, quality

    # Line 2 declares 70.50 for goods of a code with a digit too few.
    broken = line[2] | {"value_hkd": "70.50", "hkhs_code": "8517130"}
    assert shown(MONDAY, [line[1], broken]) == ((100, 1, 1, 1), (1, 70.5, "HKD", 1))
    # The line comes as it should be; the rejected one stays in quarantine until a steward decides.
    assert shown(date(2026, 7, 7), [line[2] | {"value_hkd": "70.50"}]) == ((170.5, 2, 0, 1), (1, 70.5, "HKD", 0))


@pytest.mark.xdist_group("world")
def test_every_row_says_the_day_that_the_coverage_of_its_mart_says(world: Simulated):
    marts = [
        mart
        for (mart,) in world.read(
            "select table_name from information_schema.columns where table_schema = 'marts'"
            " and column_name = 'last_complete_date' and table_name like 'mart\\_%' order by 1"
        )
        # A row of it is as complete as the mart that it names; feeds have a day each.
        if mart not in ("mart_task_force_indicators", "mart_data_quality")
    ]
    assert len(marts) > 20
    told = dict(world.read("select distinct mart, mart_complete_date from marts.dim_mart_coverage"))
    for mart in marts:
        days = {day for (day,) in world.read(f"select distinct last_complete_date from marts.{mart}")}
        assert days <= {told[mart]}, mart
