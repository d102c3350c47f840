"""Every mart says what it may tell of one enterprise."""

from __future__ import annotations

import pytest
from sampan.contracts.derive import mart_models
from sampan.marts.disclosure import CLASSES, STRICTEST, class_of

MODELS = {model["name"]: model for model in mart_models()}
# What names an enterprise, directly or as the number of something that it alone has.
IDENTIFIES = {
    "sme_id", "brn", "consent_brn", "enterprise_name", "holder_name", "merchant_no", "merchant_name", "store_id",
    "shop_name", "certificate_no", "subject", "participant_no", "application_no", "policy_no", "consent_id",
}  # fmt: skip


def _class(model: dict) -> str | None:
    return model.get("config", {}).get("meta", {}).get("disclosure")


def test_every_mart_has_a_disclosure_class():
    assert len(MODELS) > 45
    assert {name: _class(model) for name, model in MODELS.items() if _class(model) not in CLASSES} == {}
    assert {_class(model) for model in MODELS.values()} == set(CLASSES), "a class without a mart proves nothing"


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_mart_with_a_column_that_identifies_an_enterprise_is_row_level(name):
    model = MODELS[name]
    columns = {column["name"] for column in model["columns"]}
    points_to_enterprises = {
        column["name"]
        for column in model["columns"]
        for test in column.get("data_tests", ())
        if isinstance(test, dict) and "ref('dim_sme')" in str(test.get("relationships", ""))
    }
    if name == "dim_sme" or columns & IDENTIFIES or points_to_enterprises:
        assert _class(model) == "row_level"


def test_published_marts_are_publishable_and_a_mart_without_a_model_is_of_the_strictest_class():
    published = [name for name in MODELS if name.startswith("mart_published_")]
    assert len(published) >= 2
    assert {_class(MODELS[name]) for name in published} == {"publishable"}
    assert class_of("mart_of_an_earlier_version") is CLASSES[STRICTEST]
    assert CLASSES[STRICTEST].readers == ()
