"""JSON Lines: values, keys, broken lines."""

from __future__ import annotations

import pytest
from sampan.contracts.model import Source
from sampan.contracts.values import WITHHELD
from sampan.reading.personal_data import PSEUDONYM

from tests.unit.reading.deliveries import column, contract_for, records


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"x"', "x"), ("1.10", "1.10"), ("12345678901234567890", "12345678901234567890"), ("true", "true"), ("null", None),
        ('""', None), ("1e400", "1e400"), ("NaN", "NaN"), ('{"k": ["é"]}', WITHHELD), ("[]", WITHHELD),
        ("7.8245000000000005", "7.8245000000000005"),
    ],
)  # fmt: skip
def test_a_json_value_is_kept_as_it_was_written(value, text):
    contract = contract_for(Source("s3", "x", "jsonl"), [column("a", required=True), column("b")])
    (record,) = records(contract, f'{{"a": "1", "b": {value}}}\n')
    assert record.fields == ["1", text]


def test_text_of_a_json_record_holds_nothing_that_is_not_stored():
    columns = [column("a", required=True), column("b", personal="drop")]
    contract = contract_for(Source("s3", "x", "jsonl"), columns, drift="ignore")
    lines = ['{"a": "1"}', '{"a": "1", "b": "secret"}', '{"a": "1", "renamed_b": "secret"}']
    assert [record.text for record in records(contract, "\n".join(lines))] == ['{"a": "1"}', "1", "1"]


def test_text_of_a_json_record_holds_no_value_that_a_later_one_of_the_same_key_hides():
    contract = contract_for(Source("s3", "x", "jsonl"), [column("a", required=True), column("b")])
    lines = ['{"a": "A123456(3)", "a": "1"}', '{"a": "1", "b": {"k": "A123456(3)", "k": "2"}}', '{"a": "1", "b": "2"}']
    found = records(contract, "\n".join(lines))
    assert [record.text for record in found] == ["1,", f"1,{WITHHELD}", lines[2]]


@pytest.mark.parametrize(
    "text", ['{"a": "\\u0041123456(3)"', '["\\u0041123456\\uff083\\uff09"]', '{"a": "\\ud83d \\u0041123456(3)']
)
def test_a_broken_json_line_shows_no_number_when_it_is_escaped(text):
    contract = contract_for(Source("s3", "x", "jsonl"), [column("a", required=True)])
    _, record = records(contract, f'{{"a": "1"}}\n{text}')
    assert "123456" not in PSEUDONYM.sub("", record.text)
    assert PSEUDONYM.search(record.text)
    _, record = records(contract, '{"a": "1"}\n["\\u0042 \\ud83d"]')
    assert record.text == '["\\u0042 \\ud83d"]'


def test_one_record_is_broken_when_json_is_nested_as_deep_as_it_can_be_read():
    contract = contract_for(Source("s3", "x", "jsonl"), [column("a", required=True), column("b")])
    for depth in range(300, 1100, 4):
        deep = f'{{"a": "1", "b": {"[" * depth}{"]" * depth}}}'
        found = records(contract, f'{deep}\n{{"a": "2"}}\n')
        assert [record.fields[0] for record in found][1] == "2"
