"""Derived files, the layout of the dbt project, and what the expectations of the marts are of."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import yaml
from sampan.contracts import derive
from sampan.contracts.registry import all_contracts
from sampan.errors import PermanentFailure
from sampan.marts import steps
from sampan.marts.deprecations import deprecations
from sampan.quality import mart_rules

MODELS = sorted((derive.PROJECT / "models").glob("**/*.sql"))
# Not every engine understands these; they belong into macros, behind adapter.dispatch.
UNPORTABLE = (
    r"::|\bdistinct on\b|\bilike\b|filter \(where|\bto_char\b|\bgenerate_series\b|\binterval '|\bnow\(\)|at time zone"
    r"|\bas text\b|\bwith recursive\b"
)


def test_derived_files_are_as_the_contracts_say():
    assert derive.check() == []


def test_a_changed_contract_makes_the_derived_files_stale(monkeypatch, tmp_path):
    stale = tmp_path / "data-dictionary.md"
    stale.write_text(derive.dictionary().replace("declaration", "statement"))
    monkeypatch.setattr(derive, "derived", lambda: {stale: derive.dictionary})
    monkeypatch.setattr(derive, "STAGING", tmp_path)
    assert [(problem.rule, problem.file) for problem in derive.check()] == [("derive.stale", str(stale))]
    assert derive.write() == [stale]
    assert derive.check() == []
    assert derive.write() == []


def test_derived_staging_models_go_with_their_feed_and_yield_to_hand_written_ones(monkeypatch, tmp_path):
    monkeypatch.setattr(derive, "STAGING", tmp_path)
    contract = all_contracts()["quality_marks"]
    model = derive.staging_path(contract)
    gone, kept = tmp_path / "gone" / "stg_gone__feed.sql", tmp_path / "gone" / "stg_gone__hand_written.sql"
    for path in (model, gone, kept):
        path.parent.mkdir(exist_ok=True)
        path.write_text("-- One row.\nselect 1 as one\n")
    gone.write_text(derive.staging(contract))
    assert model not in derive.derived()
    assert str(gone) in {problem.file for problem in derive.check()}
    assert gone in derive.write()
    assert not gone.exists()
    assert (model.read_text(), kept.read_text()) == ("-- One row.\nselect 1 as one\n",) * 2
    assert derive.check() == []
    model.unlink()
    assert derive.write() == [model]


def test_derived_staging_model_renames_and_keeps_every_stored_column():
    contract = all_contracts()["platform_traffic"]
    first, *lines = derive.staging(contract).splitlines()
    assert first == "-- One row per platform, shop and day, of each batch."
    columns = [line.strip().rstrip(",") for line in lines if "    deliveries." in line]
    assert len(columns) == len(contract.stored)
    assert {"deliveries.shop_name", "deliveries.visits as visit_count"} <= set(columns)


def test_numbers_of_enterprises_come_from_every_column_that_identifies_one():
    macro = derive.enterprise_numbers()
    marked = [
        (contract, column)
        for contract in all_contracts().values()
        for column in contract.columns
        if column.identifies == "enterprise_number"
    ]
    assert len(marked) >= 9
    assert macro.count("union distinct") == len(marked) - 1
    for contract, column in marked:
        assert f"select {column.staged_as} as number from {{{{ ref('{derive.staging_model(contract)}') }}}}" in macro


def test_linkage_reads_every_column_that_is_a_name_of_an_enterprise():
    text = (derive.STAGING / "stg_ops__identity_names.sql").read_text()
    named = {
        derive.staging_model(contract): {c.staged_as for c in contract.columns if c.identifies == "enterprise_name"}
        for contract in all_contracts().values()
    }
    read = {model for model, columns in named.items() if columns}
    assert set(re.findall(r"ref\('(\w+)'\)", text)) == read
    assert len(read) >= 8
    columns = set().union(*named.values())
    assert set(re.findall(r"'(\w*name\w*)'", re.sub(r"ref\('\w+'\)|names_of\(\s*'\w+'", "", text))) == columns


def test_every_stored_column_of_every_feed_is_in_the_sources_and_the_dictionary():
    documents = [yaml.safe_load(derive.source(contract)) for contract in all_contracts().values()]
    tables = {table["name"]: table for document in documents for table in document["sources"][0]["tables"]}
    dictionary = derive.dictionary()
    assert set(tables) == set(all_contracts())
    for feed, contract in all_contracts().items():
        columns = [column["name"] for column in tables[feed]["columns"]]
        assert columns == [*(column.name for column in contract.stored), "_batch_id", "_line"]
        section = dictionary.split(f"### {feed}\n")[1].split("\n### ")[0]
        assert section.count("\n| `") == len(contract.columns)
        assert all(text in section for text in (contract.description, contract.limitations, contract.usage))
        for column in contract.columns:
            assert (column.personal == "drop") == (f"| `{column.name}` |" in section and _dropped(section, column.name))


def _dropped(section: str, column: str) -> bool:
    (line,) = [line for line in section.splitlines() if line.startswith(f"| `{column}` |")]
    return "dropped before it reaches a table" in line


def test_every_model_says_its_grain_on_the_first_line():
    assert len(MODELS) > 30
    without = [path.name for path in MODELS if not re.match(r"-- One row\b", path.read_text())]
    assert without == []


def test_models_are_portable_sql():
    found = {
        path.name: match[0]
        for path in MODELS
        if (match := re.search(UNPORTABLE, re.sub(r"--.*", "", path.read_text()), re.IGNORECASE))
    }
    assert found == {}


def test_no_view_that_stays_reads_a_table_of_the_release():
    """Kind of fault: a view in a working schema goes with the release when it is renamed, and keeps it from being dropped."""
    views = [
        path
        for path in MODELS
        if not path.stem.startswith(("mart_", "dim_", "fct_"))
        and (path.parts[-2] == "staging" or "materialized='view'" in path.read_text())
    ]
    assert len(views) > 10
    assert [path.name for path in views if re.search(r"ref\('(dim|mart|fct)_", path.read_text())] == []


def test_every_model_is_run_by_one_step():
    assert steps.names()[:3] == ("staging", "identity", "intermediate")
    folders = {f"{derive.PROJECT}/models/{step.replace('__', '/')}" for step in steps.names()}
    staging = f"{derive.PROJECT}/models/staging"
    folders |= {f"{staging}/{contract.partner}" for contract in all_contracts().values()}
    folders.add(f"{derive.PROJECT}/models/intermediate/names")
    assert {str(path.parent) for path in MODELS} == folders
    assert {step.name for step in steps.PREPARED} <= set(steps.names())


def test_every_mart_is_described_and_something_is_expected_of_it():
    marts = {path.stem for path in MODELS if path.stem.startswith(("mart_", "dim_", "fct_"))}
    assert {"mart_sme_360", "mart_sme_trade_monthly", "mart_funding_headroom"} <= marts
    assert set(mart_rules.load()) == marts
    described = {model["name"]: model for model in derive.mart_models()}
    assert set(described) == marts
    for name, model in described.items():
        columns = {column["name"]: column for column in model["columns"]}
        assert all(column["description"].strip() and column["data_type"] for column in columns.values()), name
        assert "release_no" in columns, name
        money = [c for c in columns if re.search(r"(hkd|cny)$", c) and not c.startswith("hkd_per")]
        assert all(
            "Unit: " in columns[c]["description"] or " at hkd_per_cny" in columns[c]["description"] for c in money
        )
        assert any(rule.severity == "critical" or rule.name == "has_rows" for rule in mart_rules.load()[name])


# The dimension that has the names of a code, by the column that marts have it in.
DIMENSIONS = {
    "market_csd_code": "dim_market", "top_market_csd_code": "dim_market", "hs_chapter": "dim_hs_chapter",
    "industry_section": "dim_industry", "district": "dim_district", "sme_class": "dim_size_class",
    "platform": "dim_platform", "funded_platform": "dim_platform", "top_platform": "dim_platform",
    "customs_regime": "dim_customs_regime", "top_customs_regime": "dim_customs_regime",
}  # fmt: skip


def test_every_code_of_a_mart_refers_to_the_dimension_that_names_it():
    codes = [
        (model["name"], column)
        for model in derive.mart_models()
        for column in model["columns"]
        if DIMENSIONS.get(column["name"], model["name"]) != model["name"]
    ]
    assert len(codes) > 40
    without = [
        (mart, column["name"])
        for mart, column in codes
        if f"ref('{DIMENSIONS[column['name']]}')" not in str(column.get("data_tests", ""))
    ]
    assert without == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("mart: other\nquality: []\n", "expectations.mart"),
        ("mart: m\nquality: [{name: a, severity: critical, description: d}]\n", "expectations.rule"),
        (
            "mart: m\nquality: [{name: a, severity: dire, description: d, implementation: {type: t, kwargs: {}}}]\n",
            "expectations.rule",
        ),
    ],
    ids=["another mart", "no implementation", "unknown severity"],
)
def test_wrong_expectations_of_a_mart_are_refused(tmp_path: Path, text: str, rule: str):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(PermanentFailure) as caught:
        mart_rules.load(tmp_path)
    assert caught.value.problem.rule == rule


def test_seeds_hold_the_rules_that_changed_in_march_2025():
    rows = [line.split(",") for line in (derive.PROJECT / "seeds" / "funding_rules.csv").read_text().splitlines()[1:]]
    shares = {(row[0], row[4]): row[3] for row in rows if row[2] == "government_share_pct"}
    assert shares == {
        ("bud", "2012-06-25"): "50",
        ("bud", "2025-03-14"): "25",
        ("emf", "2012-06-25"): "50",
        ("emf", "2025-03-14"): "25",
    }


def _staged_by(model: str) -> set[str]:
    """The feeds whose staging models a model reads."""
    (path,) = [path for path in MODELS if path.stem == model]
    named = set(re.findall(r"ref\('(stg_\w+)'\)", path.read_text()))
    return {contract.feed for contract in all_contracts().values() if derive.staging_model(contract) in named}


def test_every_feed_with_a_name_of_an_enterprise_gives_it_to_the_linkage():
    named = {
        feed
        for feed, contract in all_contracts().items()
        if any(column.identifies == "enterprise_name" for column in contract.stored)
    }
    assert _staged_by("stg_ops__identity_names") == named


def _seed(name: str) -> list[dict[str, str]]:
    with (derive.PROJECT / "seeds" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_programme_of_an_application_belongs_to_a_scheme():
    (programme,) = [c for c in all_contracts()["funding_applications"].columns if c.name == "programme"]
    assert [row["programme"] for row in _seed("funding_programmes")] == list(programme.enum)


def test_every_indicator_of_the_task_force_has_its_words():
    (mart,) = [path.read_text() for path in MODELS if path.stem == "mart_task_force_indicators"]
    assert [row["indicator"] for row in _seed("indicators")] == re.findall(r"'(\w+)' as indicator", mart)


def test_a_deprecated_column_has_columns_of_the_mart_in_its_place():
    described = {model["name"]: {column["name"] for column in model["columns"]} for model in derive.mart_models()}
    found = deprecations()
    assert len(found) > 40
    for item in found:
        assert item.column not in described[item.mart], item
        assert set(item.instead) <= described[item.mart], item
    (market,) = [item for item in found if (item.mart, item.column) == ("mart_insurance_coverage", "market_code")]
    assert market.comment.endswith("use market_iso2_code, or market_csd_code where that is unknown.")
