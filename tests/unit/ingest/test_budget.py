"""What is said of a batch that broke its rejection budget."""

from __future__ import annotations

from sampan.ingest.budget import over_budget


def test_the_commonest_rules_are_named_with_their_counts():
    by_rule = {"unit_code.enum": 4, "record.not_json": 61, "value_hkd.type": 5, "a.required": 4, "b.type": 1}
    assert over_budget(61, 62, 0.03, by_rule) == (
        "61 of 62 rows (98.4%) broke a rule: record.not_json 61, value_hkd.type 5, a.required 4 and 2 other rules; more"
        " than the rejection budget of 3.0% in the contract, so nothing is published"
    )


def test_one_rule_stands_alone():
    assert over_budget(1_200, 2_000, 0.01, {"record.nul": 1_200}).startswith(
        "1,200 of 2,000 rows (60.0%) broke a rule: record.nul 1,200; more than"
    )
