"""Each query of the questions, run as an analyst would run it, against the answer of the simulated world."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from sampan.report.questions import Question, all_questions

from tests.integration.marts.answers import answer_to
from tests.integration.world import Simulated

# Marts round to the last digit that they show, and sums of rounded values are off by a little more.
RELATIVE, ABSOLUTE = 1e-5, 1e-6
SMALL = 500

pytestmark = pytest.mark.xdist_group("world")


QUESTIONS = all_questions()


def same(found: Any, wanted: Any) -> bool:
    """Whether two values agree; numbers may differ by rounding."""
    if isinstance(found, int | float | Decimal) and isinstance(wanted, int | float | Decimal):
        places = -int(found.as_tuple().exponent) if isinstance(found, Decimal) else 0
        shown = 0.6 * 10**-places if 0 < places <= 6 else 0
        return float(found) == pytest.approx(float(wanted), rel=RELATIVE, abs=max(ABSOLUTE, shown))
    return bool(found == wanted)


def test_every_question_has_a_file():
    numbers = [section.number for section in QUESTIONS]
    assert numbers == list(range(1, 37))


@pytest.mark.parametrize("section", QUESTIONS, ids=[str(section.number) for section in QUESTIONS])
def test_section_names_the_mart_that_its_query_reads(section):
    assert section.title["en"].endswith("?")
    assert section.mart.startswith(("mart_", "dim_"))
    # The mart may be one of several that the query reads, and all of it is what analysts see.
    relations = set(re.findall(r"\b(?:from|join)\s+(\w+\.\w+)", section.query))
    assert f"marts.{section.mart}" in relations
    assert all(relation.startswith("marts.") for relation in relations)
    assert re.search(r"\border by\b[^)]*$", section.query), "the order of the rows is left to chance"


@pytest.mark.parametrize("section", QUESTIONS, ids=[str(section.number) for section in QUESTIONS])
def test_query_gives_the_answer_of_the_simulated_world(section: Question, world: Simulated):
    found = world.read(section.query)
    wanted = [tuple(row) for row in answer_to(section.number)(world)]
    assert wanted, "an empty answer proves nothing"
    assert len(wanted) <= SMALL, "an example has a small result"
    broken = [
        (position, row, other)
        for position, (row, other) in enumerate(zip(found, wanted, strict=False))
        if len(row) != len(other) or not all(map(same, row, other))
    ]
    assert (len(found), broken[:5]) == (len(wanted), [])
