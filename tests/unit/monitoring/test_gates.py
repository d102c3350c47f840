"""What a check asks for, in the words of the page of the gates."""

from __future__ import annotations

import pytest
from sampan.contracts.registry import all_contracts
from sampan.monitoring.gates import BOUNDS, bound
from sampan.quality import mart_rules

ROWS = "expect_table_row_count_to_be_between"
ASKED = {
    rule.expectation
    for rules in (*mart_rules.load().values(), *(contract.batch_rules for contract in all_contracts().values()))
    for rule in rules
    if rule.expectation is not None
}


def test_every_expectation_that_is_asked_has_words_in_both_languages():
    assert len(ASKED) >= 8
    assert ASKED - set(BOUNDS) == set()


@pytest.mark.parametrize(
    ("expectation", "kwargs", "english", "chinese"),
    [
        (ROWS, {"min_value": 1200, "max_value": None}, "number of rows: at least 1,200", "列數：至少 1,200"),
        (ROWS, {"min_value": 1, "max_value": 9}, "number of rows: 1 to 9", "列數：1 至 9"),
        (ROWS, {"max_value": 0}, "number of rows: at most 0", "列數：至多 0"),
        ("expect_table_row_count_to_equal", {"value": 24}, "number of rows: exactly 24", "列數：剛好 24"),
        (
            "expect_column_values_to_be_between", {"column": "rate", "min_value": 0.8, "max_value": 1.6},
            "each rate is 0.8 to 1.6", "每個 rate 為0.8 至 1.6",
        ),
        (
            "expect_column_proportion_of_non_null_values_to_be_between", {"column": "sme_id", "min_value": 0.5},
            "at least 50% of rows have a sme_id", "至少 50% 的列有 sme_id",
        ),
        (
            "expect_column_values_to_match_regex", {"column": "brn", "regex": "^[0-9]{8}$", "mostly": 0.99},
            "each brn has the form ^[0-9]{8}$, in at least 99% of rows", "每個 brn 的格式為 ^[0-9]{8}$（最少 99% 的列）",
        ),
        (
            "expect_column_distinct_values_to_contain_set", {"column": "s", "value_set": ["a", 1]},
            "s has at least a, 1", "s 最少包括 a、1",
        ),
        ("expect_something_new", {"column": "x"}, "expect_something_new: column x", "expect_something_new: column x"),
        (
            "expect_column_max_to_be_between", {"column": "day", "max_value": "2026-07-06"},
            "the highest day is at most 2026-07-06", "day 最大值為至多 2026-07-06",
        ),
    ],
)  # fmt: skip
def test_a_bound_is_a_sentence(expectation, kwargs, english, chinese):
    assert bound(expectation, kwargs) == (english, chinese)
