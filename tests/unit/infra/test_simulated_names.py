"""Simulated names: every way in which the field writes them occurs, and the truth says which was done."""

from __future__ import annotations

from collections import Counter
from datetime import date

import polars as pl
import pytest
from sampan.identity.names import parse

from infra.simulator import names
from infra.simulator.draws import rng
from infra.simulator.partners import hktdc
from infra.simulator.population import make
from infra.simulator.shops import shops
from infra.simulator.world import World, periods
from tests.written import written

SEED = 20260706


@pytest.fixture(scope="module")
def population():
    return make(SEED, 6000)


def test_written_gives_the_same_names_when_the_seed_is_the_same(population):
    smes = population.smes.head(300)
    assert written(SEED, smes).equals(written(SEED, smes))
    assert not written(SEED + 1, smes).equals(written(SEED, smes))


def test_written_makes_every_corruption_and_names_it(population):
    called = written(SEED, population.smes)
    stores = shops(World(SEED, population, periods(date(2026, 7, 6), 1)))
    told = Counter(
        (script, kind)
        for table, column in ((called, "corruption"), (stores, "name_corruption"))
        for script, kinds in table.select(pl.col("script" if column == "corruption" else "name_script"), column).rows()
        for kind in kinds.split(";")
    )
    kinds = {kind for _, kind in told}
    assert kinds >= {
        "abbreviation", "legal_form", "case", "brand_only", "branch", "typing_error", "simplified", "variant", "hk",
        "traditional", "legal_name", "latin_brand", "another_trade", "own_brand", "",
    }  # fmt: skip
    assert told["en", "typing_error"] > 20
    assert told["zh", "typing_error"] > 20
    assert 0.01 < sum("own_brand" in kinds for kinds in stores["name_corruption"]) / len(stores) < 0.06


def test_mistyped_changes_one_character(population):
    generator = rng(SEED, "test")
    for text in ("恒丰贸易旗舰店", "Ternquay Trading Ltd"):
        for _ in range(50):
            wrong = names.mistyped(generator, text)
            assert wrong != text or "rr" in text
            assert abs(len(wrong) - len(text)) <= 1


def test_population_has_near_names_and_no_two_companies_with_the_same(population):
    smes = population.smes.filter(pl.col("name_zh").is_not_null())
    called = smes.select("brand_zh", "trade_word_no").unique().rows()
    brands = Counter((brand[:at] + "_" + brand[at + 1 :], trade) for brand, trade in called for at in range(len(brand)))
    assert sum(count > 1 for count in brands.values()) > 30
    companies = population.smes.filter(pl.col("legal_form") == "company")
    for column in ("name_en", "name_zh"):
        same = Counter(parse(name)[0].same_name for name in companies[column].drop_nulls())
        assert sum(count - 1 for count in same.values()) < 0.005 * len(companies)


def test_participants_have_agencies_that_run_shops_of_several_merchants(population):
    listed = hktdc.participants(World(SEED, population, periods(date(2026, 7, 6), 1)))
    served = listed.filter(pl.col("operator_uscc").is_not_null()).group_by("operator_uscc")
    assert (served.agg(pl.col("sme_no").n_unique())["sme_no"] > 5).sum() >= 3
