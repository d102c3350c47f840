"""The cookbook, every query of it as a reader runs it."""

from __future__ import annotations

import re

import pytest
from sampan.settings import HOME

from tests.integration.world import Simulated

pytestmark = pytest.mark.xdist_group("world")
RECIPES = re.findall(r"^## (.+?)\n.*?```sql\n(.*?)```", (HOME / "docs" / "cookbook.md").read_text("utf-8"), re.M | re.S)


@pytest.mark.parametrize("query", [pytest.param(query, id=title) for title, query in RECIPES])
def test_a_query_of_the_cookbook_has_an_answer(query: str, world: Simulated):
    rows = world.read(query)
    assert rows
    assert any(value is not None for row in rows for value in row)


def test_the_cookbook_has_queries():
    assert len(RECIPES) >= 10
