"""HKID numbers: their check digit, how they are found, and what is stored instead."""

from __future__ import annotations

import io
import re
import time
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampan.contracts.model import Column
from sampan.contracts.registry import get_contract
from sampan.contracts.values import PSEUDONYM
from sampan.reading.personal_data import Pseudonymiser, hkid_is_valid
from sampan.reading.reader import Reader

from tests.factory import DAY, hkid
from tests.unit.reading.deliveries import column, csv_contract, in_blocks, records

PRIVATE = Pseudonymiser(b"k" * 32, 1)
BRN = get_contract("customs_declarations").column("trader_id")
UBI = get_contract("business_register").column("brn")
FREE = get_contract("customs_declarations").column("goods_description")
WIDE = {0x21 + code: 0xFF01 + code for code in range(94)} | {0x20: 0x3000}
BODY = st.from_regex(r"[A-Z]{1,2}[0-9]{6}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("A123456(3)", True),  # the specimen that the Immigration Department prints
        ("A1234563", True),
        ("a123456(3)", True),
        (" A123456(3) ", True),
        ("A123456 (3)", True),
        ("A123456(4)", False),
        ("AB987654(3)", True),
        ("G123456(A)", True),
        ("12345678", False),
        ("A12345(3)", False),
        ("ABC123456(3)", False),
        ("A123456(3", False),
        ("", False),
    ],
)
def test_hkid_is_valid_computes_the_check_digit_when_letters_and_digits_are_right(text, valid):
    assert hkid_is_valid(text) is valid


@given(BODY)
def test_hkid_is_valid_accepts_one_check_digit_of_eleven_when_all_are_tried(body):
    marks = [mark for mark in "0123456789A" if hkid_is_valid(f"{body}({mark})")]
    letters, digits = re.fullmatch(r"([A-Z]+)([0-9]+)", body).groups()
    assert [f"{body}({mark})" for mark in marks] == [hkid(letters, digits)]


@given(BODY)
def test_clean_gives_one_pseudonym_when_the_number_is_written_in_any_form(body):
    letters, digits = re.fullmatch(r"([A-Z]+)([0-9]+)", body).groups()
    number = hkid(letters, digits)
    mark = number[-2]
    forms = [number, f"{body}{mark}", number.lower(), f"{body} ({mark})", f"{letters}-{digits}({mark})", f" {number} ",
             f"{body}\uff08{mark}\uff09", number.translate(WIDE), f"{body}{mark}".translate(WIDE)]  # fmt: skip
    assert {PRIVATE.clean(BRN, form) for form in forms} == {PRIVATE.hkid(number)}


@pytest.mark.parametrize("form", ["{}", "of {} by hand", "{}, {}", "港{}號", "({})", "id:{};"])
@pytest.mark.parametrize("column", [FREE, BRN, None], ids=["free text", "identifier", "no column"])
@pytest.mark.parametrize("brackets", [True, False])
def test_clean_leaves_no_number_when_it_is_anywhere(form, column, brackets):
    number = hkid("K", "123456", brackets=brackets)
    cleaned = PRIVATE.clean(column, form.replace("{}", number))
    assert number not in cleaned
    assert PRIVATE.hkid(number) in cleaned


@pytest.mark.parametrize("column", [FREE, BRN, None], ids=["free text", "identifier", "no column"])
@pytest.mark.parametrize(
    "text", ["HKIDA123456(3)", "IDA123456(3)", "ABC123456(3)", "1A123456(3)", "x\uff21A123456\uff083\uff09"]
)
def test_clean_replaces_a_number_in_brackets_when_letters_are_right_before_it(text, column):
    for cleaned in (PRIVATE.clean(column, text), PRIVATE.clean_text(text)):
        assert PSEUDONYM.search(cleaned)
        assert not re.search("[0-9]{3}", PSEUDONYM.sub("", cleaned))


@pytest.mark.parametrize("number", ["A123456-3", "A123456 3", "A-1234563", "a 123456-3"])
def test_clean_replaces_a_number_with_separators_when_its_check_digit_is_right(number):
    assert PRIVATE.clean(FREE, f"LAM Tai {number}, by hand") == f"LAM Tai {PRIVATE('A1234563')}, by hand"
    wrong = f"{number[:-1]}4"
    assert PRIVATE.clean(FREE, f"LAM Tai {wrong}") == f"LAM Tai {wrong}"


@pytest.mark.parametrize("text", ["AB1234568", "K1234561", "XK1234563", "part K123456", "12345678", "K12345678", "p1_"])
def test_clean_changes_nothing_when_text_only_resembles_a_number(text):
    assert PRIVATE.clean(FREE, text) == text


def test_clean_keeps_a_code_that_its_columns_pattern_accepts_when_part_of_it_resembles_a_number():
    policy = get_contract("hkecic_policies").column("policy_no")
    code = next(f"SBP{n:07}" for n in range(100) if hkid_is_valid(f"P{n:07}") or hkid_is_valid(f"BP{n:07}"))
    assert PRIVATE.clean(policy, code) == code
    assert PRIVATE.clean(FREE, code) != code
    assert PRIVATE.clean(policy, f"x{code}") != f"x{code}"
    event = Column("event_id", "event_id", "string", "An event.", options={"pattern": "^TM-[0-9]{4}-[0-9]{3}$"})
    missions = [f"TM-2026-{n:03}" for n in range(100)]
    assert [PRIVATE.clean(event, code) for code in missions] == missions
    exact = Column("code", "code", "string", "A code.", options={"pattern": "^[A-Z][0-9]{7}$"})
    assert PRIVATE.clean(exact, "A1234563") == PRIVATE("A1234563")


@pytest.mark.parametrize("pattern", ["^([A-Z0-9]+-?)+$", "^(([A-Z0-9])+.)+[a-z]$", "^(A|1|A1)+$"])
def test_clean_takes_no_longer_for_a_value_that_a_pattern_could_match_in_many_ways(pattern):
    """Fault: 26 characters took 94 seconds, in the desk's own process, too, where everyone waited for them."""
    column = Column("a", "a", "string", "", options={"pattern": pattern})
    value, begun = "A1" * 500 + "!", time.process_time()
    assert PRIVATE.clean(column, value) == value
    # Milliseconds, or minutes: a slow machine fails nothing.
    assert time.process_time() - begun < 20


def test_clean_marks_a_number_as_invalid_when_its_check_digit_is_wrong():
    assert re.fullmatch(r"invalid_p1_[0-9a-f]{64}", PRIVATE.clean(BRN, "A123456(4)"))
    assert re.fullmatch(r"x invalid_p1_[0-9a-f]{64}", PRIVATE.clean(FREE, "x A123456(4)"))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("A123456", "A123456"),
        ("A12345(6)", "A123456"),
        ("A123456/3", "A1234563"),
        ("A123456[3]", "A1234563"),
        ("A 123 456 (3)", "A1234563"),
        ("A.123456(3)", "A1234563"),
        ("A1234567(3)", "A12345673"),
        ("A12345678", "A12345678"),
        ("123456A", "123456A"),
        ("123456(3)", "1234563"),
        ("123456\uff083\uff09", "1234563"),
        ("A1", "A1"),
        ("A\u200b123456(3)", "A1234563"),
        ("HKID A12345", "HKIDA12345"),
        ("\uff21\uff11\uff12\uff13\uff14\uff15\uff16", "A123456"),
        ("\u24b6123456", "A123456"),
        ("1234567\u6ce2", "1234567"),
    ],
)
def test_clean_shows_nothing_of_a_number_when_it_is_mistyped_where_one_is_expected(text, normal):
    assert PRIVATE.clean(BRN, text) == f"invalid_{PRIVATE(normal)}"
    assert PRIVATE.clean(UBI, text) == f"invalid_{PRIVATE(normal)}"
    # Elsewhere only one with all its parts is hidden.
    assert PRIVATE.clean(FREE, text) == (PRIVATE(normal) if hkid_is_valid(normal) else text)


def test_clean_gives_the_pseudonym_when_only_the_characters_differ_in_kind():
    forms = [
        "\uff21\uff11\uff12\uff13\uff14\uff15\uff16\uff08\uff13\uff09",
        "A123456\u2476",
        "\u24b6123456(3)",
        "A\xa0123456(3)",
    ]
    assert {PRIVATE.clean(BRN, form) for form in forms} == {PRIVATE("A1234563")}


GAPS = st.sampled_from(["", "", "", " ", "-", ".", "/", "  ", "_", "\u3000", "\xa0", "\u200b", "\uff0f", ",", "no. "])
LEFT, RIGHT = (
    st.sampled_from(["", "(", "[", "/", " (", "\uff08", "{", "\u300c"]),
    st.sampled_from(["", ")", "]", "\uff09", " "]),
)


@st.composite
def mistyped(draw) -> tuple[str, str]:
    """A number as a person may have typed it, and its letters and digits alone."""
    letters = draw(st.text("ABCKQXYZ", min_size=1, max_size=3))
    digits = draw(st.text("0123456789", min_size=1, max_size=8))
    check = draw(st.sampled_from(["", *"0123456789A"]))
    spread = "".join(draw(GAPS) + char for char in letters + digits).removeprefix(" ")
    text = f"{spread}{draw(LEFT)}{check}{draw(RIGHT)}"
    text = draw(st.sampled_from([str, str.lower, str.title]))(text)
    kept = draw(st.sets(st.integers(0, len(text) - 1)))
    if draw(st.booleans()):
        text = "".join(char if place in kept else char.translate(WIDE) for place, char in enumerate(text))
    return text, letters + digits + check


@given(mistyped())
def test_clean_never_gives_letters_and_digits_back_when_a_number_is_expected(number):
    text, _ = number
    cleaned = PRIVATE.clean(BRN, text)
    rest = PSEUDONYM.sub("", cleaned)
    assert cleaned != rest
    assert not re.search(r"[0-9\uff10-\uff19]", rest) or not re.search(r"[A-Za-z\uff21-\uff5a]", rest)
    assert PRIVATE.clean(BRN, cleaned) == cleaned
    kept = PRIVATE.clean(UBI, text)
    assert PSEUDONYM.search(kept) or re.search(UBI.options["pattern"], unicodedata.normalize("NFKC", kept).strip())


@given(st.text("0123456789 -/.\uff10\uff11\uff19\u3000", max_size=12))
def test_clean_changes_nothing_when_a_registration_number_is_mistyped(text):
    assert PRIVATE.clean(BRN, text) == text
    assert PRIVATE.clean(UBI, text) == text


@pytest.mark.parametrize(
    "text", ["12345678", "1234567", "123456789", "12 345 678", "12345678-000", "unknown", "N/A", "-", "\u7121"]
)
def test_clean_keeps_a_value_readable_when_it_cannot_be_a_number_of_a_person(text):
    assert PRIVATE.clean(BRN, text) == text


@pytest.mark.parametrize("text", ["C0012345", "F1234567", "LP123456", "ABC12345", " C0012345 ", "\uff230012345"])
def test_clean_keeps_a_value_readable_when_its_columns_pattern_accepts_it(text):
    assert PRIVATE.clean(UBI, text) == text
    assert PSEUDONYM.fullmatch(PRIVATE.clean(BRN, text))


@pytest.mark.parametrize("column", [FREE, None], ids=["free text", "no column"])
@pytest.mark.parametrize("brackets", [True, False])
def test_clean_finds_a_full_width_number_when_it_is_in_a_text(column, brackets):
    number = hkid("K", "123456", brackets=brackets)
    text = f"\u7537\u88dd\uff0c{number.translate(WIDE)}\uff0c\uff21\uff11"
    assert PRIVATE.clean(column, text) == text.replace(number.translate(WIDE), PRIVATE.hkid(number))
    assert PRIVATE.clean_text(text) == PRIVATE.clean(column, text)


def test_clean_keeps_a_ubi_when_its_column_asks_for_one():
    number = next(f"C{n:06}{d}" for n in range(100) for d in range(10) if hkid_is_valid(f"C{n:06}{d}"))
    assert PRIVATE.clean(UBI, number) == number
    assert PRIVATE.clean(UBI, f"{number[:-1]}({number[-1]})") == PRIVATE.hkid(number)
    assert PRIVATE.clean(FREE, number) == PRIVATE.hkid(number)


def test_clean_changes_nothing_when_a_value_is_cleaned_already():
    once = PRIVATE.clean(BRN, "A123456(3)")
    assert PRIVATE.clean(BRN, once) == once
    assert PSEUDONYM.fullmatch(once)


def test_clean_replaces_every_value_when_the_whole_column_is_personal():
    column = Column("account", "account", "string", "An account.", personal="pseudonymise")
    assert PRIVATE.clean(column, "12-345") == PRIVATE("12-345")


def test_pseudonyms_differ_when_the_key_or_its_version_does():
    values = {Pseudonymiser(key, version)("A1234563") for key in (b"a" * 32, b"b" * 32) for version in (1, 2)}
    assert len(values) == 4


def test_clean_text_replaces_every_number_when_the_text_has_no_known_structure():
    text = PRIVATE.clean_text("A123456(3),K1234560,AB 123456 7")
    assert not re.search(r"[A-Z]{1,2} ?[0-9]{6}", text)


@pytest.mark.parametrize(
    "text",
    [
        "A123456",
        "A12345(6)",
        "A123456/3",
        "A123456[3]",
        "A 123 456 (3)",
        "A.123456(3)",
        "AB-123-456/A",
        "A123456".translate(WIDE),
    ],
)
@pytest.mark.parametrize("form", ["{}", "12345678,{},x", '"{}', '{"id": "{}", "cut', "x, {} ,2026-07-06"])
def test_clean_text_replaces_what_resembles_a_number_when_a_field_of_it_expects_one(text, form):
    cleaned = PRIVATE.clean_text(form.replace("{}", text), expects_hkid=True)
    assert len(PSEUDONYM.findall(cleaned)) == 1
    assert not re.search(
        r"[0-9\uff10-\uff19]{3}", PSEUDONYM.sub("", cleaned).replace("12345678", "").replace("2026", "")
    )
    assert PRIVATE.clean_text(cleaned, expects_hkid=True) == cleaned


@pytest.mark.parametrize("text", ["12345678,610910,x", "of 2026, KGM", "D202607060000001,A,123456", "1,234,567 HKD"])
def test_clean_text_changes_nothing_when_nothing_resembles_a_number(text):
    assert PRIVATE.clean_text(text, expects_hkid=True) == text


def test_no_pseudonym_of_a_delivery_passes_as_a_person():
    """Deliver a pseudonym that was learnt or made up instead of a number (H5)."""
    forged = [f"p1_{'0a' * 32}", PRIVATE("K1234560"), f"p22_{'f' * 64}", f"invalid_p1_{'1' * 64}"]
    columns = [column("a", required=True), column("b", personal="pseudonymise", personal_pattern="hkid")]
    columns += [column("c", personal="pseudonymise"), column("d")]
    contract = csv_contract(columns)
    for value in forged:
        rows = [f"1,{value},x,y", f"1,A123456(3),x,{value}", f'1,12345678,"{value}",y', f"A123456(3),x {value},y,z"]
        for row in rows:
            body = f"a,b,c,d\n1,12345678,x,y\n{row}\n".encode()
            *_, record = records(contract, body)
            assert value.removeprefix("invalid_") not in record.text + str(record.fields)
    only_text = csv_contract([columns[0], columns[1], columns[3]])
    for value in forged:
        for row in (f"1,{value},y", f"1,A123456(3),{value}", f'1,12345678,"A1234563 {value}"'):
            ((_, fields, _),) = in_blocks(only_text, f"a,b,d\n{row}\n".encode())
            assert value.removeprefix("invalid_") not in str(fields)


def test_a_replay_keeps_its_pseudonyms():
    known = replace(PRIVATE, keeps_pseudonyms=True)
    person = PRIVATE("A1234563")
    columns = [column("a", required=True), column("b", personal="pseudonymise", personal_pattern="hkid")]
    body = f"a,b\n1,{person}\nA123456(3),{person}\n".encode()
    read = Reader(csv_contract(columns), lambda: io.BytesIO(body), DAY, "file", known)
    assert [record.fields for record in read.records()] == [["1", person], [person, person]]
    assert b"".join(block.data for block in read.blocks()) == f"1,{person}\n{person},{person}\n".encode()
