"""Parquet: types, bombs, parts."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sampan.contracts.model import Source
from sampan.errors import PermanentFailure
from sampan.reading import limits

from tests.unit.reading.deliveries import both_refuse, column, contract_for, in_blocks, one_by_one, reader

PARQUET = contract_for(Source("s3", "x", "parquet"), [column("a", required=True), column("b", "date")])


def parquet(values: pa.Array, **options) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": values, "b": ["2026-07-06"] * len(values)}), out, **options)
    return out.getvalue()


BAD_TEXT = pa.Array.from_buffers(pa.string(), 1, pa.array([b"secret\xff\xfe"]).buffers())


@pytest.mark.parametrize(
    "body",
    [
        parquet(BAD_TEXT),
        parquet(pa.array([0], pa.timestamp("us", "Mars/Phobos"))),
        parquet(pa.array([{"x": 2**62}], pa.struct([("x", pa.timestamp("us"))]))),
        parquet(pa.array(["x"])).replace(b"a", b"\xff"),
    ],
    ids=["text", "zone", "time", "name"],
)
def test_a_parquet_file_is_read_or_refused_when_it_holds_what_python_cannot_hold(body):
    problems = []
    for path in ("records", "blocks"):
        try:
            list(getattr(reader(PARQUET, body), path)())
        except PermanentFailure as failure:
            problems.append(failure.problem)
    assert all(problem.rule.startswith("delivery.") for problem in problems)
    assert "secret" not in str(problems)


def test_bytes_are_text_where_they_are_utf8_and_cost_one_row_where_they_are_not():
    """Kind of fault: an odd row costs others. One value of other bytes made `b'...'` of each in its batch, in silence."""
    body = parquet(pa.array([b"sound", b"odd \xff", "茶".encode()], pa.binary()))
    expected = [(1, "sound", []), (2, r"odd \xff", ["record.encoding"]), (3, "茶", [])]
    for found in (one_by_one(PARQUET, body), in_blocks(PARQUET, body)):
        assert [(line, fields[0], broken) for line, fields, broken in found] == expected


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (lambda: pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), ["x" * 100_000]), {}),
        (
            lambda: pa.array(["x" * 100_000] * 2000),
            {"use_dictionary": False, "column_encoding": {"a": "DELTA_BYTE_ARRAY"}},
        ),
        (lambda: pa.array([b"x" * 100_000] * 2000, pa.binary(100_000)), {}),
        (lambda: pa.array([["x" * 100_000]] * 2000), {}),
    ],
    ids=["dictionary", "prefixes", "fixed", "lists"],
)
def test_a_parquet_file_is_refused_when_few_bytes_expand_to_many(values, options):
    body = parquet(values(), **options)
    assert len(body) < 150_000
    assert both_refuse(PARQUET, body) == "delivery.too_large"


def test_a_parquet_file_is_refused_when_one_value_is_longer_than_a_record_may_be():
    assert both_refuse(PARQUET, parquet(pa.array(["x", "y" * 1_100_000]))) == "delivery.record_too_long"


def test_a_parquet_file_is_read_whole_when_it_is_decoded_in_parts(monkeypatch):
    monkeypatch.setattr(limits, "PARQUET_BATCH_BYTES", 1000)
    texts = [None if n % 7 == 0 else f"text {n % 100} " * (n % 9) for n in range(3000)]
    for options in ({}, {"use_dictionary": False}, {"row_group_size": 700}):
        found = list(reader(PARQUET, parquet(pa.array(texts), **options)).records())
        assert [(record.line, record.fields[0]) for record in found] == list(enumerate((t or None for t in texts), 1))
