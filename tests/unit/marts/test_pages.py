"""The pages of docs/marts name every mart once, and the questions that its marts answer."""

from __future__ import annotations

import re

import pytest
from sampan.report.questions import all_questions

from tests.conftest import ROOT

PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "marts").glob("*.md"))}
MODELS = ROOT / "dbt_project" / "models"
MARTS = {"dim_sme"} | {
    model.stem for folder in ("marts/*", "intermediate/names", "summary") for model in MODELS.glob(f"{folder}/*.sql")
}


def marts_of(page: str) -> set[str]:
    """The marts in the tables of a page."""
    return MARTS & set(re.findall(r"^\| `(\w+)` \|", PAGES[page], re.MULTILINE))


def answered_by() -> dict[int, str]:
    """The mart of each question."""
    return {question.number: question.mart for question in all_questions()}


def test_every_mart_is_on_one_page():
    found = {mart: [page for page in PAGES if mart in marts_of(page)] for mart in sorted(MARTS)}
    assert len(found) > 50
    assert {mart: pages for mart, pages in found.items() if len(pages) != 1} == {}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_the_questions_that_its_marts_answer(page: str):
    numbers = [number for number, mart in sorted(answered_by().items()) if mart in marts_of(page)]
    line = f"\n\n[Questions](../questions.md) {', '.join(map(str, numbers))}.\n\n"
    assert (line in PAGES[page]) == bool(numbers), f"docs/marts/{page}.md needs the line: {line.strip()}"
