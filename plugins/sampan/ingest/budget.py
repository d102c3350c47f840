"""What is said of a batch that broke its rejection budget."""

from __future__ import annotations

from collections.abc import Mapping

# Rules that a message names.
MOST_NAMED = 3


def over_budget(quarantined: int, rows: int, budget: float, by_rule: Mapping[str, int]) -> str:
    """The message for `quarantined` of `rows` rows, with the commonest rules.

    `by_rule` counts the rows of the batch that broke each rule; a row counts for each.
    """
    commonest = sorted(by_rule.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{rule} {count:,}" for rule, count in commonest[:MOST_NAMED]]
    left = len(commonest) - len(named)
    which = f": {', '.join(named)}{f' and {left:,} other rules' if left else ''}" if named else ""
    share = f"{quarantined:,} of {rows:,} rows ({quarantined / rows:.1%}) broke a rule{which}"
    return f"{share}; more than the rejection budget of {budget:.1%} in the contract, so nothing is published"
