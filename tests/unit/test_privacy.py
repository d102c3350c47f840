"""HKID numbers, their check digit, and what becomes of a field."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampan.contract import Column, load
from sampan.privacy import PSEUDONYM, Pseudonymiser, hkid_is_valid

from tests.factory import hkid

PRIVATE = Pseudonymiser(b"k" * 32, 1)
BRN = load("customs_declarations").column("trader_id")
UBI = load("business_register").column("brn")
FREE = load("customs_declarations").column("goods_description")
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
def test_hkid_is_valid_reckons_the_check_digit_when_the_shape_is_right(text, valid):
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
             f"{body}\uff08{mark}\uff09"]  # fmt: skip
    assert {PRIVATE.clean(BRN, form) for form in forms} == {PRIVATE.hkid(number)}


@pytest.mark.parametrize("form", ["{}", "of {} by hand", "{}, {}", "港{}號", "({})", "id:{};"])
@pytest.mark.parametrize("column", [FREE, BRN, None], ids=["free text", "identifier", "no column"])
@pytest.mark.parametrize("brackets", [True, False])
def test_clean_leaves_no_number_when_it_stands_anywhere(form, column, brackets):
    number = hkid("K", "123456", brackets=brackets)
    cleaned = PRIVATE.clean(column, form.replace("{}", number))
    assert number not in cleaned
    assert PRIVATE.hkid(number) in cleaned


@pytest.mark.parametrize("text", ["AB1234568", "K1234561", "XK1234563", "part K123456", "12345678", "K12345678", "p1_"])
def test_clean_changes_nothing_when_text_only_resembles_a_number(text):
    assert PRIVATE.clean(FREE, text) == text


def test_clean_marks_a_number_as_invalid_when_its_check_digit_is_wrong():
    assert re.fullmatch(r"invalid_p1_[0-9a-f]{64}", PRIVATE.clean(BRN, "A123456(4)"))
    assert re.fullmatch(r"x invalid_p1_[0-9a-f]{64}", PRIVATE.clean(FREE, "x A123456(4)"))


def test_clean_keeps_a_ubi_when_its_column_asks_for_one():
    number = next(f"C{n:06}{d}" for n in range(100) for d in range(10) if hkid_is_valid(f"C{n:06}{d}"))
    assert PRIVATE.clean(UBI, number) == number
    assert PRIVATE.clean(UBI, f"{number[:-1]}({number[-1]})") == PRIVATE.hkid(number)
    assert PRIVATE.clean(FREE, number) == PRIVATE.hkid(number)


def test_clean_is_done_once_when_it_is_done_again():
    once = PRIVATE.clean(BRN, "A123456(3)")
    assert PRIVATE.clean(BRN, once) == once
    assert PSEUDONYM.fullmatch(once)


def test_clean_replaces_every_value_when_the_whole_column_is_personal():
    column = Column("account", "account", "string", "An account.", personal="pseudonymise")
    assert PRIVATE.clean(column, "12-345") == PRIVATE("12-345")


def test_pseudonyms_differ_when_the_key_or_its_version_does():
    values = {Pseudonymiser(key, version)("A1234563") for key in (b"a" * 32, b"b" * 32) for version in (1, 2)}
    assert len(values) == 4


def test_clean_text_replaces_every_shape_when_nothing_is_known_of_the_text():
    text = PRIVATE.clean_text("A123456(3),K1234560,AB 123456 7")
    assert not re.search(r"[A-Z]{1,2} ?[0-9]{6}", text)
