"""Headers that a person takes for the expected ones.

Kind of fault: a message says that a column is missing, though anybody sees it there.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from sampan.contracts.model import Alias, Contract
from sampan.errors import PermanentFailure
from sampan.reading.alike import alike

from tests.factory import DAY
from tests.unit.reading.deliveries import column, csv_contract, reader

NAME = "declaration_no"
SAME_TO_THE_EYE = {
    "Declaration_No": "capital letters",
    "DECLARATION_NO": "capital letters",
    "\ufeffdeclaration_no": "a byte order mark",
    "decla\u200bration_no": "invisible characters",
    "declaration\u00adno": "invisible characters and punctuation",
    "'declaration_no'": "quotes",
    "“declaration_no”": "quotes",
    "declaration no": "blanks and punctuation",
    "declaration\u00a0_no": "blanks",
    "declaration\n_no": "line breaks and blanks",
    "ｄｅｃｌａｒａｔｉｏｎ＿ｎｏ": "the width of characters",
    "dеclaration_no": "characters that only look alike",
    "declarati0n_no": "characters that only look alike",
    "declaration-no": "punctuation",
    "DECLARATION NO.": "capital letters and blanks and punctuation",
    "\ufeffDeclaration_No": "a byte order mark and capital letters",
}


@pytest.mark.parametrize(("header", "differs"), SAME_TO_THE_EYE.items())
def test_a_header_that_looks_the_same_is_found_and_its_difference_named(header, differs):
    assert alike(NAME, ["version", header, "line_no"]) == (header, f"differs by {differs}")


def test_a_line_break_within_a_header_is_named():
    assert alike("Policy No.", ["Policy\nNo."]) == ("Policy\nNo.", "differs by line breaks")


@pytest.mark.parametrize("header", ["declaraton_no", "declaration_num", "declarations_no"])
def test_a_misspelt_header_is_found(header):
    assert alike(NAME, ["version", header]) == (header, "is spelt differently")


@pytest.mark.parametrize("headers", [[], ["version", "line_no"], [""], ["Chan Tai Man"], ["x" * 5000], ["\ud800"]])
def test_what_resembles_nothing_is_not_shown(headers):
    assert alike(NAME, headers) is None


def said_of(contract: Contract, body: str | bytes) -> str:
    """The message with which a delivery is refused."""
    with pytest.raises(PermanentFailure) as failure:
        _ = reader(contract, body.encode() if isinstance(body, str) else body).layout
    return str(failure.value)


# --- in the messages of a delivery ------------------------------------------------------------------------------------

CONTRACT = csv_contract([column("declaration_no", required=True), column("value_hkd", required=True), column("note")])


def test_each_missing_column_is_named_with_what_stands_in_its_place():
    said = said_of(CONTRACT, "Declaration_No,note,Value (HKD)\n1,2,3\n")
    assert "required column 'declaration_no' is missing: 'Declaration_No' differs by capital letters; " in said
    assert "required column 'value_hkd' is missing: 'Value (HKD)' differs by" in said


def test_a_name_that_holds_from_a_later_day_on_is_told_with_the_day():
    contract = replace(CONTRACT, aliases=(Alias("value", "value_hkd", date(2026, 10, 1)),))
    said = said_of(contract, "declaration_no,value\n1,2\n")
    assert f"'value' is its name from 2026-10-01 on, and this delivery is of {DAY}" in said


def test_headers_that_differ_all_alike_are_named():
    said = said_of(CONTRACT, "DECLARATION_NO,VALUE_HKD,NOTE\n1,2,3\n")
    assert "no column header of this feed found; expected declaration_no, value_hkd, note" in said
    assert "'DECLARATION_NO' differs by capital letters from 'declaration_no'" in said


def test_two_byte_order_marks_are_named():
    said = said_of(CONTRACT, "\ufeff\ufeffdeclaration_no,value_hkd\n1,2\n".encode())
    assert r"'declaration_no' is missing: '\ufeffdeclaration_no' differs by a byte order mark" in said


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_another_delimiter_is_named(mark):
    said = said_of(CONTRACT, mark.join(["declaration_no", "value_hkd", "note"]) + "\n" + mark.join("123") + "\n")
    assert f"separated by ','; these are separated by {mark!r}" in said


def test_values_in_place_of_headers_are_not_shown():
    said = said_of(CONTRACT, "Chan Tai Man,A123456(3),98765432\n1,2,3\n")
    assert "; the 3 fields that stand there are none" in said
    assert "Chan" not in said
    assert "A123456" not in said
