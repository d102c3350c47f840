"""The words of the desks: each in both languages, with the same values in both, and one for every rule of a column."""

from __future__ import annotations

import re

import pytest
from sampan.contracts.derive import mart_models
from sampan.contracts.registry import all_contracts
from sampan.contracts.row_rules import checks, type_checks
from sampan.desk.bank import MART
from sampan.desk.words import FOLDERS, DeskWords, labels
from sampan.errors import Code
from sampan.identity import resolve
from sampan.identity.linkage import model

from tests.conftest import ROOT
from tests.factory import DAY

TEMPLATES = ROOT / "plugins" / "sampan" / "desk" / "templates"


def test_every_word_is_there_in_both_languages_with_the_same_values():
    words = [*labels()["texts"].items(), *labels()["rules"].items()]
    words += [item for of in labels()["values"].values() for item in of.items()]
    assert len(words) > 200
    for key, word in words:
        assert word.keys() == {"en", "zh"}, key
        assert all(isinstance(text, str) for text in word.values()), key
        values = [sorted(re.findall(r"\{(\w+)\}", word[language])) for language in ("en", "zh")]
        assert values[0] == values[1], key


CHINESE = re.compile("[\u4e00-\u9fff]")


def test_what_pages_in_chinese_take_from_the_platform_is_in_chinese():
    """Titles of feeds, meanings of credit features, purposes of consents, evidence and reasons of proposed links."""
    words, english = DeskWords("zh-Hant"), DeskWords("en")
    (mart,) = [found for found in mart_models() if found["name"] == MART]
    described = {column["name"]: column["description"] for column in mart["columns"]}
    assert labels()["features"].keys() == described.keys()
    (comparison,) = [of for of in model()["settings"]["comparisons"] if of["output_column_name"] == "name"]
    evidence = [
        level["label_for_charts"] for level in comparison["comparison_levels"] if not level.get("is_null_level")
    ]
    said = [words.value("evidence", of) for of in evidence]
    said += [
        words.value("proposal_reasons", of) for of in (resolve.LIKELY, resolve.OTHER_NUMBER, resolve.SEVERAL_NUMBERS)
    ]
    said += [words.feature(*column) for column in described.items()]
    said += [words.label(column) for column in described]
    said += [words.title(feed) for feed in all_contracts()]
    (purpose,) = [column for column in all_contracts()["cdi_consents"].columns if column.name == "purpose"]
    said += [words.value("consent_purpose", of) for of in purpose.enum]
    assert len(said) > 60
    assert [text for text in said if not CHINESE.search(text)] == []
    for feed, contract in all_contracts().items():
        assert english.title(feed) == contract.title
    assert {english.feature(*column) for column in described.items()} == set(described.values())


def test_what_the_gate_says_is_in_chinese_where_its_rule_is_known():
    """Codes of what befalls deliveries, rules that contracts describe, and what became of requests; English stays English."""
    words, english = DeskWords("zh-Hant"), DeskWords("en")
    codes = [code for code in Code if code.split(".")[0] in ("batch", "delivery") and code is not Code.BATCH_HELD]
    assert len(codes) > 25
    said = {code: words.problem(code, "customs_declarations") for code in codes}
    titled = [contract for feed, contract in all_contracts().items() if words.title(feed) != contract.title]
    described = {rule.description for contract in titled for rule in contract.row_rules}
    assert len(described) > 60
    # What no contract says any more is said in no language.
    assert labels()["descriptions"].keys() == described
    said |= {text: words.described(text) for text in described}
    said |= {action: words.outcome(action, "done") for action in labels()["values"]["actions"]}
    said |= {state: words.outcome("accept_batch", state) for state in ("refused", "failed")}
    assert [key for key, text in said.items() if text is None or not CHINESE.search(text)] == []
    assert labels()["problems"].keys() <= set(Code)
    assert "5.0%" in str(said[Code.BATCH_REJECTION_BUDGET])
    assert {english.problem(code) for code in codes} == {None}
    assert {english.described(text) for text in described} == described
    assert words.problem("made.up") is None
    assert words.described("A rule of a new feed.") == "A rule of a new feed."


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


def test_a_long_bound_is_written_in_groups_of_digits():
    declarations = all_contracts()["customs_declarations"]
    assert DeskWords("en").rule(declarations, "value_hkd.maximum") == "value_hkd is above 100,000,000,000"
    assert DeskWords("zh-Hant").rule(declarations, "value_hkd.maximum") == "value_hkd高於100,000,000,000"


def test_templates_put_no_latin_comma_colon_or_bracket_between_words_of_a_language():
    """Kind of fault: what stands between two values is of one language, and stands in the pages of both."""
    templates = [*TEMPLATES.glob("*.html")]
    assert len(templates) > 15
    between = re.compile(r"(?:\}\}|</a>)(?:[,:] (?=\{\{)| \(\{\{)")
    assert {path.name: between.findall(path.read_text("utf-8")) for path in templates} == {
        path.name: [] for path in templates
    }
