"""The fast path gives what the slow path gives, or gives up."""

from __future__ import annotations

import csv
import io
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampan.contracts import line_pattern
from sampan.contracts.model import Source
from sampan.errors import PermanentFailure
from sampan.reading import limits
from sampan.reading.fast_path import FastPathUnsupported, _Checker
from sampan.reading.record import csv_line

from tests.unit.reading.deliveries import PRIVATE, column, contract_for, csv_contract, fast, reader, records


@pytest.mark.parametrize(
    ("personal", "pattern", "numbered"),
    [("none", None, False), ("drop", None, True), ("pseudonymise", None, True), ("pseudonymise", "hkid", False)],
)
def test_blocks_are_the_files_own_lines_only_when_no_value_must_be_changed(personal, pattern, numbered):
    columns = [column("a", required=True), column("b", personal=personal, personal_pattern=pattern)]
    assert reader(csv_contract(columns), b"a,b\n1,2\n").numbered is numbered


def test_the_fast_path_refuses_a_line_without_end_too():
    with pytest.raises(PermanentFailure) as failure:
        fast(csv_contract(), b"a,b,c\n" + b"x" * (limits.MAX_RECORD_BYTES + 2 * limits.BLOCK_BYTES))
    assert failure.value.problem.rule == "delivery.record_too_long"


@pytest.mark.parametrize("size", [53, 1000, limits.BLOCK_BYTES - 1, limits.BLOCK_BYTES, limits.BLOCK_BYTES + 1])
def test_blocks_end_with_a_line_and_lose_none_when_the_stream_is_cut_anywhere(size):
    lines = [f"{number},{'x' * (number % 50)},\n" for number in range(3 * limits.BLOCK_BYTES // 40)]
    body = ("a,b,c\n" + "".join(lines)).encode()

    class Pieces(io.BytesIO):
        def read(self, wanted: int | None = -1) -> bytes:
            return super().read(min(size, wanted or size))

    blocks = fast(csv_contract(), body, Pieces)
    assert all(block.endswith(b"\n") for block in blocks)
    assert b"".join(blocks) == "".join(lines).encode()


EXPECTS = {"personal": "pseudonymise", "personal_pattern": "hkid"}
PATTERN = "^([0-9]{8}|p[0-9]+_[0-9a-f]{64})$"
WIDE = str.maketrans({chr(0x21 + code): chr(0xFF01 + code) for code in range(94)})
SPELT = [
    "12345678",
    "1234567",
    "",
    "A123456(3)",
    "A1234563",
    "A123456",
    "A123456/3",
    "A123456(3)".translate(WIDE),
    "A".translate(WIDE) + "123456",
    "A 123 456 (3)",
    "x A123456(3) y",
    "unknown",
    "A\r1",
    f"p1_{'0' * 64}",
    "A1,2",
    '"A1"',
]
NUMBER = st.one_of(
    st.sampled_from(SPELT),
    st.text(st.sampled_from('A1(\uff08\uff21\uff11)/ 3.,"'), max_size=10),
)


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.tuples(NUMBER, NUMBER, st.booleans()), min_size=1, max_size=4),
    end=st.sampled_from(["\n", "\r\n"]),
    pattern=st.sampled_from([PATTERN, r"^\d{8}$", None]),
)
def test_both_paths_replace_the_same_when_numbers_are_mistyped(rows, end, pattern):
    options = {"pattern": pattern} if pattern else {}
    contract = csv_contract([column("a", required=True), column("b", options=options, **EXPECTS), column("c")])
    body = f"a,b,c{end}"
    for number, text, bare in rows:
        body += f"1,{number},{text}{end}" if bare else csv_line(["1", number, text]) + end
    try:
        blocks = b"".join(fast(contract, body.encode())).decode()
    except FastPathUnsupported:
        return
    found = records(contract, body)
    assert [["1", r.fields[1] or "", r.fields[2] or ""] for r in found] == list(
        csv.reader(io.StringIO(blocks, newline=""))
    )
    assert not any(record.broken for record in found)


@pytest.mark.parametrize("quoted", [False, True])
def test_the_fast_path_replaces_a_mistyped_number_and_nothing_else_when_one_line_of_many_holds_one(quoted):
    contract = csv_contract(
        [column("a", required=True), column("b", options={"pattern": PATTERN}, **EXPECTS), column("c")]
    )
    lines = [f'{number},"12345678",x' if quoted else f"{number},12345678,x" for number in range(100_000)]
    spoilt = {5: "A123456", 70_000: "A123456/3", 99_999: "\uff21123456"}
    given = [f"{n},{spoilt[n]},x" if n in spoilt else line for n, line in enumerate(lines)]
    given[7] = "7,1234567,x"
    blocks = list(reader(contract, ("a,b,c\n" + "\n".join(given) + "\n").encode()).blocks())
    found = b"".join(block.data for block in blocks).decode().splitlines()
    assert not blocks[-1].fits_pattern
    assert {n for n, line in enumerate(found) if line != given[n]} == set(spoilt)
    assert found[5] == f"5,invalid_{PRIVATE('A123456')},x"
    assert found[70_000] == f"70000,invalid_{PRIVATE('A1234563')},x"


@pytest.mark.parametrize(
    "line", ["1,A123456", "1,A123456,x,surplus", '1,"A123456,x', '1,A123456,"two\nlines"', "1,A\xff123456,x"]
)
def test_the_fast_path_gives_up_before_the_database_sees_it_when_a_line_cannot_be_split(line):
    contract = csv_contract(
        [column("a", required=True), column("b", options={"pattern": PATTERN}, **EXPECTS), column("c")]
    )
    with pytest.raises(FastPathUnsupported):
        fast(contract, f"a,b,c\n{line}\n".encode("latin-1"))
    (record, *_) = records(contract, f"a,b,c\n{line}\n".encode("latin-1"))
    assert "123456" not in re.sub("_[0-9a-f]{64}", "", f"{record.text} {record.fields}")


LATE = [
    "2026-07-31T16:00:00.000Z",
    "2026-07-31 00:00:00+08",
    "2026-07-31T00:01",
    "2026-07-31Z",
    "today",
    "Now",
    "tomorrow 1600",
]
SOUND = ["2026-07-31", "2026-07-31 00:00:00", "2026-07-31T00:00:00.000", "20260731", "31 July 2026", "2026-7-1", ""]


@pytest.mark.parametrize("form", ["csv", "quoted", "with a dropped column", "jsonl", "xlsx", "parquet", "fixed"])
@pytest.mark.parametrize(("value", "sound"), [(v, False) for v in LATE] + [(v, True) for v in SOUND])
def test_a_delivery_is_left_to_the_slow_path_when_a_date_has_a_time_or_is_a_word(form, value, sound):
    import xlsxwriter

    columns = [column("a", required=True, start=1, length=1), column("b", "date", start=2, length=30)]
    kind = {"quoted": "csv", "with a dropped column": "csv"}.get(form, form)
    if form == "with a dropped column":
        columns.append(column("c", personal="drop"))
    contract, out = contract_for(Source("s3", "x", kind), columns), io.BytesIO()
    if kind == "xlsx":
        with xlsxwriter.Workbook(out) as book:
            sheet = book.add_worksheet()
            sheet.write_row(0, 0, ["a", "b"])
            sheet.write_row(1, 0, ["x", value])
    elif kind == "parquet":
        pq.write_table(pa.table({"a": ["x"], "b": [value]}), out)
    else:
        quoted = f'"{value}"' if form == "quoted" else value
        more = ("c", "secret") if form == "with a dropped column" else None
        line = ",".join(["x", quoted, *(more or ())[1:]])
        text = {"csv": f"{'a,b,c' if more else 'a,b'}\n{line}\n", "jsonl": f'{{"a": "x", "b": "{value}"}}\n',
                "fixed": f"x{value:30}\n"}[kind]  # fmt: skip
        out.write(text.encode())
    if sound:
        assert value.encode() in b"".join(fast(contract, out.getvalue()))
    else:
        with pytest.raises(FastPathUnsupported):
            fast(contract, out.getvalue())


def test_the_fast_path_loses_no_line_when_a_block_does_not_end_with_one():
    contract = csv_contract([column("a", required=True), column("b", options={"pattern": PATTERN}, **EXPECTS)])
    checker = _Checker(contract.columns, PRIVATE)
    checker.harmless = re.compile(b"never")
    block = checker._clean_unproven_lines(b"1,A123456\n2,A123457")
    assert block == f"1,invalid_{PRIVATE('A123456')}\n2,invalid_{PRIVATE('A123457')}".encode()


@pytest.mark.parametrize(
    "options",
    [{"pattern": "^[A-Z]{1,2000}$"}, {"pattern": "^([A-Z]{1,200}){1,200}$"}, {"maxLength": 1000}, {"maxLength": 5}],
    ids=str,
)
def test_the_fast_path_passes_every_line_on_when_columns_may_be_long(options):
    columns = [column(f"c{n}", required=True, options=options) for n in range(40)]
    line = ",".join(["ABC"] * 40)
    body = f"{','.join(c.name for c in columns)}\n{line}\n{line}\n".encode()
    blocks = list(reader(csv_contract(columns), body).blocks())
    assert b"".join(block.data for block in blocks) == f"{line}\n{line}\n".encode()
    assert blocks[-1].fits_pattern
    proven = line_pattern.proven_rules(csv_contract(columns))
    assert {"c0.required", "c39.required"} <= proven
    assert ("c0.max_length" in proven) == (options == {"maxLength": 5})
