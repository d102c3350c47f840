"""Lines that are written by columns hold the same records as taking each apart, also where nearly all are alike."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampan.contracts.model import Source
from sampan.errors import PermanentFailure

from tests.factory import hkid
from tests.unit.reading.deliveries import PRIVATE, blocks, column, contract_for, in_blocks, one_by_one

COLUMNS = [
    column("a", required=True),
    column("n", "number"),
    column("b", "boolean"),
    column("t"),
    column("gone", personal="drop"),
]
JSON = contract_for(Source("s3", "x", "jsonl"), COLUMNS)
ALIKE = [f'{{"a": "{number}", "n": {number}.10, "b": true, "t": null, "gone": "x"}}' for number in range(40)]
# Lines that resemble the others, sound or not.
OTHERS = [
    '{"a": "1", "n": 007, "b": true, "t": null, "gone": "x"}',
    '{"a": "1", "n": 1e5, "b": true, "t": null, "gone": "x"}',
    '{"a": "1", "n": -0.50, "b": false, "t": "", "gone": null}',
    '{"a": "1", "n": NaN, "b": true, "t": null, "gone": "x"}',
    '{"a": "1", "n": +1, "b": true, "t": null, "gone": "x"}',
    '{"a": "1", "n": 1, "b": True, "t": null, "gone": "x"}',
    '{"a": "1", "n": 1, "b": true, "t": bare, "gone": "x"}',
    '{"a": "1", "n": 1, "b": true, "t": "x"y", "gone": "x"}',
    '{"a": "1", "n": 1, "b": true, "t": "x\\"y", "gone": "x"}',
    '{"a": "1", "n": 1, "b": true, "t": "two\\nlines", "gone": "x"}',
    '{"a": "1", "n": 1, "b": true, "t": "a, \\"b\\": c", "gone": "x"}',
    '{"a": "1", "n": 1, "b": true, "t": "a tab\there", "gone": "x"}',
    '{"a": "1", "n": 1, "b": true, "t": ["list"], "gone": "x"}',
    '{"a": "1", "n": 1, "b": true, "t": {"a": 1}, "gone": "x"}',
    '{"a": "1", "n": 1, "b": true, "t": "x", "gone": "x", "t": "y"}',
    '{"n": 1, "a": "1", "b": true, "t": "x", "gone": "x"}',
    '{"a": "1", "n": 1, "b": true, "t": "x"}',
    '{"a":"1","n":1,"b":true,"t":"x","gone":"x"}',
    '{"a": "1", "n": 1, "b": true, "t": "x", "gone": "x", "new": "y"}',
    '{"a": "1", "n": 1, "b": true, "t": "x", "gone": "x"},',
    ' {"a": "1", "n": 1, "b": true, "t": "x", "gone": "x"}',
    '{"a": "1", "n": 1, "b": true, "t": "x", "gone": "x"}\r',
    '{"a": "1", "n": 1, "b": true, "t": "\u4e2d\u6587, \u9999\u6e2f", "gone": "x"}',
    f'{{"a": "1", "n": 1, "b": true, "t": "call {hkid("A", "123456")}", "gone": "x"}}',
    '{"a": "1", "n": 1, "b": true, "t": "A%31%32%33456(3)", "gone": "x"}',
    f'{{"a": "1", "n": 1, "b": true, "t": "p1_{"0" * 64}", "gone": "x"}}',
    '{"a": null, "n": null, "b": null, "t": null, "gone": null}',
    '{"a": "null", "n": "1.10", "b": "true", "t": "null", "gone": "null"}',
    "",
    "[]",
    "x",
]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("place", [0, 20, 40])
def test_a_json_line_is_read_as_if_it_were_alone_when_nearly_all_others_are_alike(other, place):
    body = ("\n".join([*ALIKE[:place], other, *ALIKE[place:]]) + "\n").encode()
    found = in_blocks(JSON, body)
    assert found == one_by_one(JSON, body)
    assert len(found) >= len(ALIKE)


@given(
    lines=st.lists(st.sampled_from([*OTHERS, *ALIKE[:5]]), min_size=1, max_size=12),
    compact=st.booleans(),
    alike=st.booleans(),
)
def test_json_lines_hold_the_same_records_in_whatever_order_and_style_they_come(lines, compact, alike):
    some = [json.dumps(json.loads(line), separators=(",", ":")) for line in ALIKE] if compact else ALIKE
    body = ("\n".join([*(some if alike else some[:1]), *lines]) + "\n").encode()
    assert in_blocks(JSON, body) == one_by_one(JSON, body)


def test_lines_that_are_alike_are_written_without_a_look_at_each():
    """A number keeps its digits, a text its quotes; null is nothing."""
    body = ("\n".join(ALIKE) + "\n").encode()
    (block,) = blocks(JSON, body)
    assert block.data.decode().splitlines() == [f'"{number}",{number}.10,true,' for number in range(40)]


def parquet(columns, values: dict[str, list[str | None]]) -> tuple[object, bytes]:
    out = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(texts, pa.string()) for name, texts in values.items()}), out)
    return contract_for(Source("s3", "x", "parquet"), columns), out.getvalue()


@pytest.mark.parametrize(
    ("pattern", "value", "is_person"),
    [
        ("^[A-Z]{1,2}[0-9]{7}$", "A1234563", True),
        ("^[A-Z]{1,2}[0-9]{7}$", "A1234567", False),
        ("^[A-Z]{3}[0-9]{7}$", "XXA1234563"[:10], False),
        ("^[A-Z]{2}-[A-Z]{1,2}[0-9]{6}-[0-9]$", "TM-A123456-3", True),
        ("^[A-Z]{2}-[A-Z]{1,2}[0-9]{6}-[0-9]$", "TM-A123456-4", False),
        ("^[A-Z]{2}_[A-Z]{1,2}[0-9]{7}$", "TM_A1234563", True),
    ],
)
def test_a_code_is_a_persons_number_only_in_a_plain_form(pattern, value, is_person):
    columns = [column("a", required=True, options={"pattern": pattern}), column("t")]
    contract, body = parquet(columns, {"a": [value, value], "t": ["x", "x, y"]})
    assert in_blocks(contract, body) == one_by_one(contract, body)
    text = b"".join(block.data for block in blocks(contract, body)).decode() + str(one_by_one(contract, body))
    assert (PRIVATE("A1234563") in text) == is_person


TEXTS = st.text(st.sampled_from('A1(3)45623, "\r\n\uff21%=&-_\\'), max_size=12)


@given(
    rows=st.lists(st.tuples(TEXTS, st.none() | TEXTS), min_size=1, max_size=6),
)
def test_fields_are_in_quotes_where_csv_needs_them_and_hold_the_same_records(rows):
    columns = [column("a", required=True), column("t")]
    contract, body = parquet(columns, {"a": [a for a, _ in rows], "t": [t for _, t in rows]})
    assert in_blocks(contract, body) == one_by_one(contract, body)


@pytest.mark.parametrize("count", [200, 60_000])
def test_a_json_line_of_very_many_keys_is_refused_for_them_and_for_nothing_else(count):
    """A pattern of that many keys is too large for the engine; the line has too many columns."""
    body = (json.dumps({"a": "1"} | {f"k{number}": number for number in range(count)}) + "\n").encode()
    with pytest.raises(PermanentFailure, match="more than 100 columns are not in the contract"):
        blocks(JSON, body)
