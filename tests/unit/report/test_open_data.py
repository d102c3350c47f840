"""Contracts of marts with those who read them, and which marts are published."""

from __future__ import annotations

import pytest
from sampan.contracts.derive import mart_models
from sampan.contracts.validate import _standard
from sampan.report import open_data

MODELS = {model["name"]: model for model in mart_models()}


@pytest.mark.parametrize("name", MODELS)
def test_the_contract_of_a_mart_is_valid_in_the_standard(name):
    made = open_data.contract(MODELS[name])
    assert [error.message for error in _standard().iter_errors(made)] == []
    (table,) = made["schema"]
    assert [column["name"] for column in table["properties"]] == [column["name"] for column in MODELS[name]["columns"]]
    key = MODELS[name].get("config", {}).get("meta", {}).get("primary_key") or []
    of_key = sorted(
        (column["primaryKeyPosition"], column["name"]) for column in table["properties"] if "primaryKey" in column
    )
    assert [column for _, column in of_key] == key
    assert all(column["description"] for column in table["properties"])


def test_the_types_of_a_contract_are_those_of_the_standard():
    types = {
        column["name"]: column["logicalType"]
        for column in open_data.contract(MODELS["mart_exports_monthly"])["schema"][0]["properties"]
    }
    assert types["movement_month"] == "date"
    assert types["value_hkd"] == "number"
    assert types["exporter_count"] == "integer"
    assert types["is_quotable"] == "boolean"
    assert types["flow"] == "string"


def test_only_what_tells_of_no_enterprise_is_published():
    published = open_data.published()
    assert {"mart_published_exports", "mart_published_traders", "dim_market"} <= set(published)
    assert not {"dim_sme", "mart_sme_360", "mart_exports_monthly", "mart_credit_features"} & set(published)
