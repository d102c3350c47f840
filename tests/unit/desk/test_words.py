"""The words of the desks: each in both languages, with the same values in both, and one for every rule of a column."""

from __future__ import annotations

import re

import pytest
from sampan.contracts.registry import all_contracts
from sampan.contracts.row_rules import checks, type_checks
from sampan.desk.words import FOLDERS, DeskWords, labels

from tests.factory import DAY


def test_every_word_is_there_in_both_languages_with_the_same_values():
    words = [*labels()["texts"].items(), *labels()["rules"].items()]
    words += [item for of in labels()["values"].values() for item in of.items()]
    assert len(words) > 200
    for key, word in words:
        assert word.keys() == {"en", "zh"}, key
        assert all(isinstance(text, str) for text in word.values()), key
        values = [sorted(re.findall(r"\{(\w+)\}", word[language])) for language in ("en", "zh")]
        assert values[0] == values[1], key


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_rule_of_every_contract_is_said_in_words(folder):
    words = DeskWords(folder)
    said = 0
    for contract in all_contracts().values():
        for check in (*checks(contract, contract.stored, DAY), *type_checks(contract.stored)):
            text = words.rule(contract, check.name)
            assert text not in ("", check.name)
            assert "{" not in text.replace(str(contract), "") or "pattern" in check.name, text
            said += 1
    assert said > 500
