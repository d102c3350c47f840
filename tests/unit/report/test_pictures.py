"""Pictures that follow from the models: every mart with its key, every join, every feed, and nothing else."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from sampan.contracts.derive import mart_models
from sampan.contracts.registry import all_contracts
from sampan.report import derived, pictures
from sampan.report.questions import all_questions
from sampan.settings import HOME

FAMILIES = pictures.by_family()
PICTURES = pictures.pictures()


def texts(name: str) -> list[str]:
    """What a picture says; that it is XML is checked on the way."""
    return [
        element.text or ""
        for element in ElementTree.fromstring(PICTURES[name]).iter("{http://www.w3.org/2000/svg}text")
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_s_picture_has_each_mart_its_key_and_what_it_joins(family):
    said, drawn = texts(f"entities/{family}.svg"), PICTURES[f"entities/{family}.svg"]
    for model in FAMILIES[family]:
        meta = model.get("config", {}).get("meta", {})
        assert model["name"] in said
        assert set(meta.get("primary_key") or []) | set(pictures.joins_of(model)) <= set(said)
    joins = sum(len(pictures.joins_of(model)) for model in FAMILIES[family])
    assert drawn.count('<path class="join"') == joins


def test_the_overview_has_every_table_that_is_joined():
    joined = {table for model in mart_models() for table in pictures.joins_of(model).values()}
    assert len(joined) >= 8
    assert joined <= set(texts("entities/overview.svg"))


def test_the_lineage_has_every_feed_with_a_line_and_every_question():
    said, drawn = texts("lineage.svg"), PICTURES["lineage.svg"]
    assert set(all_contracts()) <= set(said)
    numbers = {int(number) for text in said if re.fullmatch(r"[0-9, ]+", text) for number in text.split(", ")}
    assert numbers == {question.number for question in all_questions()}
    made = pictures.made_from()
    assert set(all_contracts()) == frozenset().union(*(one.figures | one.others for one in made.values()))
    assert drawn.count('<path class="flow') > len(all_contracts())


@pytest.mark.parametrize(
    ("mart", "figures", "others"),
    [
        ("mart_exports_monthly", {"customs_declarations"}, set()),
        ("mart_insurance_utilisation", {"hkecic_claims", "hkecic_policies", "hkecic_shipments"}, set()),
        # What is compared with C&SD's figures is complete when declarations are.
        ("mart_trade_reconciliation", {"customs_declarations"}, {"csd_bulk_hscoccit", "csd_bulk_hscoit"}),
    ],
)
def test_a_mart_is_made_of_the_feeds_that_its_coverage_names(mart, figures, others):
    made = pictures.made_from()[mart]
    assert (made.figures, made.others & others) == (figures, others)


def test_a_changed_model_makes_its_picture_stale_and_a_family_that_went_leaves_none(monkeypatch, tmp_path):
    stale = tmp_path / "docs" / "entities" / "gone.svg"
    stale.parent.mkdir(parents=True)
    stale.write_text("<svg/>")
    monkeypatch.setattr(derived, "_docs", lambda: tmp_path / "docs")
    found = {problem.file for problem in derived.check()}
    assert {str(stale), str(tmp_path / "docs" / "lineage.svg")} <= found
    derived.write()
    assert not stale.exists()
    assert derived.check() == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_page_shows_the_picture_of_each_family(family):
    shown = "\n".join(page.read_text() for page in HOME.glob("docs/**/*.md"))
    assert f"entities/{family}.svg)" in shown
