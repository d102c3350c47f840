"""CSV: lines, quotes, headers."""

from __future__ import annotations

import pytest
from sampan.reading import limits

from tests.unit.reading.deliveries import csv_contract, in_blocks, one_by_one, records, refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b,c\n1,2,3\n", [(2, ["1", "2", "3"], [])]),
        ("a,b,c\n1,,\n\n  \n4,5,6", [(2, ["1", None, None], []), (5, ["4", "5", "6"], [])]),
        ("c,a\n3,1\n", [(2, ["3", "1"], [])]),
        ('a,b,c\n"1","2 ""x""","3,3"\n', [(2, ["1", '2 "x"', "3,3"], [])]),
        ('a,b,c\n"one\ntwo",2,3\n4,5,6\n', [(2, ["one\ntwo", "2", "3"], []), (4, ["4", "5", "6"], [])]),
        ('a,b,c\n5" pipe,7" pipe,x\n', [(2, ['5" pipe', '7" pipe', "x"], [])]),
        ('a,b,c\n"1,2,3\n4,5,6\n7,8,9\n', [(2, [None] * 3, ["record.unclosed_quote"]), (3, ["4", "5", "6"], []),
                                        (4, ["7", "8", "9"], [])]),
        ('a,b,c\n1,2,"3', [(2, [None] * 3, ["record.unclosed_quote"])]),
        ('a,b,c\n"1"x,2,3\n', [(2, [None] * 3, ["record.bad_quote"])]),
        ("a,b,c\n1,2\n1,2,3,4\n", [(2, [None] * 3, ["record.too_few_fields"]), (3, [None] * 3, ["record.too_many_fields"])]),
        ("\ufeffa,b,c\r\n1,2,3\r\n", [(2, ["1", "2", "3"], [])]),
        (" a , b ,c\n 1 ,2,3\n", [(2, [" 1 ", "2", "3"], [])]),
    ],
)  # fmt: skip
def test_records_have_their_line_fields_and_flaws_when_a_csv_is_read(text, expected):
    assert [(record.line, record.fields, record.broken) for record in records(csv_contract(), text)] == expected


def test_records_keep_the_flaws_of_every_line_when_one_spans_several():
    body = b'a,b,c\n"one\ntwo \xff\nthree \x00",2,3\n'
    (record,) = records(csv_contract(), body)
    assert record.line == 2
    assert set(record.broken) == {"record.encoding", "record.nul"}


def test_records_are_all_found_when_a_quote_is_not_closed_on_many_lines():
    text = "a,b,c\n" + ('"1,2,3\n' + "1,2,3\n" * 60) * 30
    found = records(csv_contract(), text)
    assert [record.line for record in found] == list(range(2, 61 * 30 + 2))
    assert sum(record.broken == ["record.unclosed_quote"] for record in found) == 30


def test_records_split_at_the_contracts_delimiter_when_it_is_another():
    contract = csv_contract(delimiter=";")
    assert [record.fields for record in records(contract, 'a;b;c\n1,5;"x;y";3\n')] == [["1,5", "x;y", "3"]]


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"x,y\n1,2\n", "header_unrecognised"),
        (b"b,c\n1,2\n", "header_missing_column"),
        (b"a,b,b\n1,2,3\n", "header_repeated"),
        (b"a,b,z,z\n1,2,3,4\n", "header_repeated"),
        (b"a\rb,c\n", "header_unreadable"),
        (b"a,b,c\n" + b"x" * (limits.MAX_RECORD_BYTES + 2 * limits.BLOCK_BYTES), "record_too_long"),
        (b"x" * (limits.MAX_RECORD_BYTES + 2 * limits.BLOCK_BYTES), "record_too_long"),
    ],
    ids=range(9),
)
def test_records_are_refused_when_the_headers_or_a_line_make_no_sense(body, rule):
    assert refused(csv_contract(), body) == f"delivery.{rule}"


@pytest.mark.parametrize("before", range(2, 18, 2))
def test_lines_between_stray_quotes_are_records_each_where_a_block_ends(before):
    """Kind of fault: what takes lines of the next block is only right within one."""
    lines = b'1,"x,2\nm\nn\n3,y",4\n'
    size = limits.BLOCK_BYTES - before - len(b"a,b,c\n")
    body = b"a,b,c\n" + b"1,2,3\n" * (size // 6 - 1) + b"1,2," + b"3" * (size % 6 + 1) + b"\n" + lines + b"5,6,7\n" * 3
    found = in_blocks(csv_contract(), body)
    assert found == one_by_one(csv_contract(), body)
    first = size // 6 + 2
    assert [(line, rules) for line, _, rules in found if rules] == [
        (first + place, ["record.unclosed_quote"]) for place in range(4)
    ]
