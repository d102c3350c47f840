"""Names: which ones the registry treats as equal, what is the brand, and under which keys brands are found."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from sampan.identity import linkage, names
from sampan.identity.linkage import NameRecord, Pair

from tests.written import frequencies


def one(text: str) -> names.Name:
    (name,) = names.parse(text)
    return name


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("Hang Fung Trading Limited", "HANG FUNG TRADING CO., LTD.", id="legal-forms-and-case"),
        pytest.param("The Hang Fung Trading Company", "Hang-Fung Trading", id="leading-the-and-hyphen"),
        pytest.param("Hang & Fung Limited", "Hang and Fung Ltd", id="and-is-ampersand"),
        pytest.param("Hong Kong Tern Limited", "HK Tern Company Limited", id="hong-kong-is-hk"),
        pytest.param("H.K. Tern Ltd", "Hongkong Tern Ltd", id="hk-with-dots"),
        pytest.param("Far East Quill Limited", "FE Quill Ltd", id="far-east-is-fe"),
        pytest.param("Café Quill Limited", "Cafe Quill", id="accents"),
        pytest.param("Quill's Public Limited Company", "Quills Unlimited", id="apostrophe"),
        pytest.param("恒豐貿易有限公司", "恆豐貿易公司", id="variant-heng"),
        pytest.param("峯滙無限公司", "峰匯有限公司", id="variants-fung-wui"),
        pytest.param("恒豐 貿易", "恒豐貿易公眾有限公司", id="spaces"),
        pytest.param("恒豐貿易有限公司", "恒丰贸易有限公司", id="simplified-for-comparison"),
    ],
)
def test_names_are_the_same_by_the_rules_of_the_registry(first, second):
    assert one(first).same_name == one(second).same_name


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("Hang Fung Trading Limited", "Hang Fung Development Limited", id="another-trade"),
        pytest.param("Hang Fung Limited", "Hang Fung (Hong Kong) Limited", id="hong-kong-counts"),
        pytest.param("恒豐貿易有限公司", "恒昌貿易有限公司", id="another-character"),
    ],
)
def test_names_differ_by_the_rules_of_the_registry(first, second):
    assert one(first).same_name != one(second).same_name


@pytest.mark.parametrize(
    ("text", "brand", "trades"),
    [
        ("恒丰贸易海外旗舰店", "恒丰", ("trading",)),
        ("香港恒丰官方旗舰店", "恒丰", ()),
        ("恒豐貿易(香港)有限公司尖沙咀分店", "恒丰", ("trading",)),
        ("億寶行", "亿宝", ()),
        ("龍寶國際貿易集團有限公司", "龙宝", ("group", "international", "trading")),
        ("Ternquay Health Products (H.K.) Ltd - Kwun Tong Branch", "ternquay", ("health_products",)),
        ("TERNQUAY WHARF TRDG CO LTD", "ternquaywharf", ("trading",)),
        ("Ternquay Int'l & Co.", "ternquay", ("international",)),
        ("Trading Post Limited", "trading" + "post", ()),
    ],
)
def test_name_is_taken_apart(text, brand, trades):
    assert (one(text).brand, one(text).trades) == (brand, trades)


def test_latin_brand_in_chinese_surroundings_is_an_english_name():
    (name,) = names.parse("TERNQUAY珠宝海外旗舰店")
    assert (name.script, name.brand, name.trades) == ("en", "ternquay", ("jewellery",))
    both = names.parse("TERNQUAY恒丰旗舰店")
    assert [(name.script, name.brand) for name in both] == [("en", "ternquay"), ("zh", "恒丰")]


@pytest.mark.parametrize("text", ["", "有限公司", "官方旗舰店", "---", "公司"])
def test_words_that_any_firm_may_use_name_nobody(text):
    assert names.parse(text) == ()


@pytest.mark.parametrize(
    ("chinese", "english"),
    [("恒豐", "Hang Fung"), ("億寶", "Yick Po"), ("龍寶", "Loong Po"), ("榮華", "Wing Wah"), ("恒丰", "Heng Feng")],
)
def test_readings_of_chinese_meet_its_spelling_in_latin_letters(chinese, english):
    assert set(one(chinese).readings) & set(one(english).readings)
    assert set(one(chinese).keys) & set(one(english).keys)


def test_aliases_are_of_one_group_in_any_script():
    assert one("莎莎官方旗舰店").alias == one("Sa Sa International Holdings Limited").alias == "sasa"


# --- what follows from a comparison -----------------------------------------------------------------------------------


def _scored(source: str, *enterprises: str, operator: str = "") -> list[Pair]:
    known = [NameRecord(f"9000000{at}", name) for at, text in enumerate(enterprises) for name in names.parse(text)]
    asked = [NameRecord("shop", name, operator) for name in names.parse(source)]
    return linkage.score(asked, known, frequencies(known))


@pytest.mark.parametrize(
    ("source", "enterprises", "linked"),
    [
        pytest.param("恒丰贸易旗舰店", ["恒豐貿易有限公司", "恒昌貿易有限公司"], "90000000", id="same-brand-and-trade"),
        pytest.param("睿衞穗旗舰店", ["睿衞穗國際有限公司"], "90000000", id="rare-brand-alone"),
        pytest.param("恒丰旗舰店", ["恒豐貿易有限公司"], None, id="short-brand-alone"),
        pytest.param("恒丰旗舰店", ["恒豐貿易有限公司", "恒豐國際有限公司"], None, id="brand-of-two-firms"),
        pytest.param("恒丰贸易旗舰店", ["Hang Fung Trading Limited"], None, id="other-script-reads-alike"),
        pytest.param("莎莎官方旗舰店", ["Sa Sa Limited"], "90000000", id="other-script-by-alias"),
        pytest.param("Ternquay Trdg HK", ["Ternquay Trading Limited"], "90000000", id="english-abbreviated"),
        pytest.param("Ternquya Trading", ["Ternquay Trading Limited"], None, id="english-mistyped"),
    ],
)
def test_only_equal_and_telling_names_merge_on_their_own(source, enterprises, linked):
    decision = linkage.decide(_scored(source, *enterprises))
    assert decision.number == linked
    assert linked or decision.proposals, "what is likely goes to a person"


@pytest.mark.parametrize(
    ("source", "enterprise"),
    [
        pytest.param("旻曦梓旗舰店", "恒豐貿易有限公司", id="brand-of-its-own"),
        pytest.param("睿衞穗旗舰店", "睿衞浚國際有限公司", id="one-character-apart"),
        pytest.param("Wing Fung Trading", "Wing Shing Trading Limited", id="one-syllable-apart"),
    ],
)
def test_name_of_nobody_known_is_not_even_proposed(source, enterprise):
    decision = linkage.decide(_scored(source, enterprise))
    assert (decision.number, decision.proposals) == (None, ())


def test_rejected_enterprise_is_not_linked_again():
    pairs = _scored("恒丰贸易旗舰店", "恒豐貿易有限公司")
    assert linkage.decide(pairs).number == "90000000"
    decision = linkage.decide(pairs, frozenset({"90000000"}))
    assert (decision.number, decision.proposals) == (None, ())


def test_more_bearers_make_a_brand_tell_less():
    alone = _scored("睿衞穗旗舰店", "睿衞穗國際有限公司")[0].weight
    shared = _scored("睿衞穗旗舰店", "睿衞穗國際有限公司", "睿衞穗貿易有限公司")[0].weight
    assert alone > shared + 5


def test_model_is_a_whole_one():
    limits = linkage.model()["thresholds"]
    assert 0 < limits["review"] < limits["merge"] < 1
    assert all(f"{name}_because" in limits for name in ("merge", "review", "margin"))
    levels = [level for entry in linkage.model()["settings"]["comparisons"] for level in entry["comparison_levels"]]
    assert {level["label_for_charts"] for level in levels} >= set(linkage.MERGING)


# --- what makes every name be parsed and linked again -----------------------------------------------------------------

PARSED = {1: "13ee99421b6c4b85"}


def test_rules_version_is_raised_when_a_name_is_parsed_in_another_way():
    texts = [
        "Hang Fung Trading Limited",
        "The Far East Quill & Co. (H.K.) Ltd - Kwun Tong Branch",
        "Loong Po Jewellery",
        "恒丰贸易海外旗舰店",
        "恒豐貿易(香港)有限公司尖沙咀分店",
        "TERNQUAY恒丰旗舰店",
        "莎莎官方旗舰店",
        "峯滙無限公司",
    ]
    parsed = json.dumps([asdict(name) for text in texts for name in names.parse(text)])
    digest = hashlib.sha256(parsed.encode()).hexdigest()[:16]
    assert PARSED[names.RULES_VERSION] == digest, "raise names.RULES_VERSION and write the new digest here"


def _seeds(folder: Path, more: str = "", source: str = "chowtaifook.com") -> Path:
    folder.mkdir()
    (folder / "name_words.csv").write_bytes((names.SEEDS / "name_words.csv").read_bytes())
    aliases = (names.SEEDS / "name_aliases.csv").read_text().replace("chowtaifook.com", source)
    (folder / "name_aliases.csv").write_text(aliases + more)
    return folder


def test_fingerprint_stays_when_only_a_note_changes(monkeypatch, tmp_path):
    before = names.fingerprint()
    monkeypatch.setattr(names, "SEEDS", _seeds(tmp_path / "seeds", source="another source of the same alias"))
    assert names.fingerprint() == before
    version, model = linkage.version(), linkage.model()
    reworded = model | {"thresholds": model["thresholds"] | {"merge_because": "in other words"}}
    monkeypatch.setattr(linkage, "model", lambda: reworded)
    assert linkage.version() == version


def test_fingerprint_changes_when_a_table_or_the_rules_change(monkeypatch, tmp_path):
    before = names.fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(names, "SEEDS", _seeds(tmp_path / "seeds", more="hang_fung,恒豐,register of marks,2026-08-01\n"))
        assert names.fingerprint() != before
    for name, value in (("SPELLINGS", names.SPELLINGS[1:]), ("RULES_VERSION", names.RULES_VERSION + 1)):
        with monkeypatch.context() as patch:
            patch.setattr(names, name, value)
            names._read.cache_clear()
            assert names.fingerprint() != before, name
    names._read.cache_clear()
    assert names.fingerprint() == before
    version, model = linkage.version(), linkage.model()
    monkeypatch.setattr(linkage, "model", lambda: model | {"thresholds": model["thresholds"] | {"merge": 0.98}})
    assert linkage.version() != version
