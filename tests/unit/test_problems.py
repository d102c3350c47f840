"""The page of problem codes: every code and every row rule is on it, and every message leads there."""

from __future__ import annotations

import re
from datetime import date

from sampan.contracts.registry import all_contracts
from sampan.contracts.row_rules import checks, type_checks
from sampan.errors import Code, PermanentFailure, Problem
from sampan.problems import COLUMN_RULES, MEANINGS, SECTIONS, problems_page


def test_every_code_has_a_meaning_a_remedy_and_an_anchor_on_the_page():
    page = problems_page()
    assert set(MEANINGS) == set(Code)
    assert {code.partition(".")[0] for code in Code} == set(SECTIONS)
    for code, texts in MEANINGS.items():
        assert all(text.endswith(".") for text in texts), code
        assert f"\n### {code}\n" in page
    headings = {
        re.sub(r"[^a-z0-9_-]", "", line.lower().replace(" ", "-")) for line in re.findall("^#+ (.*)$", page, re.M)
    }
    for code in Code:
        problem = Problem(code, "of any kind")
        assert problem.page.removeprefix("docs/problems.md#") in headings, code
        assert str(PermanentFailure(problem)).endswith(f"[{code}]; see {problem.page}")


def test_every_row_rule_of_a_column_is_explained():
    kinds = {
        check.name.rpartition(".")[2]
        for contract in all_contracts().values()
        for check in (*checks(contract, contract.stored, date(2026, 8, 3)), *type_checks(contract.stored))
        if "." in check.name
    }
    assert kinds == COLUMN_RULES.keys() - {"min_length"}
