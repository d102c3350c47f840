"""Blocks give the same records as taking each apart does, and take few of them apart."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampan.contracts import line_pattern
from sampan.contracts.model import Source
from sampan.errors import PermanentFailure
from sampan.reading import limits
from sampan.reading.record import csv_line

from tests.unit.reading.deliveries import PRIVATE, blocks, column, contract_for, csv_contract, in_blocks, one_by_one


def test_a_line_without_end_is_refused():
    with pytest.raises(PermanentFailure) as failure:
        blocks(csv_contract(), b"a,b,c\n" + b"x" * (limits.MAX_RECORD_BYTES + 2 * limits.BLOCK_BYTES))
    assert failure.value.problem.rule == "delivery.record_too_long"


@pytest.mark.parametrize("size", [53, 1000, limits.BLOCK_BYTES - 1, limits.BLOCK_BYTES, limits.BLOCK_BYTES + 1])
def test_blocks_end_with_a_line_and_lose_none_when_the_stream_is_cut_anywhere(size):
    lines = [f"{number},{'x' * (number % 50)},\n" for number in range(3 * limits.BLOCK_BYTES // 40)]
    body = ("a,b,c\n" + "".join(lines)).encode()

    class Pieces(io.BytesIO):
        def read(self, wanted: int | None = -1) -> bytes:
            return super().read(min(size, wanted or size))

    found = [block.data for block in blocks(csv_contract(), body, Pieces)]
    assert all(block.endswith(b"\n") for block in found)
    assert b"".join(found) == "".join(lines).encode()


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


@given(
    rows=st.lists(st.tuples(NUMBER, NUMBER, st.booleans()), min_size=1, max_size=4),
    end=st.sampled_from(["\n", "\r\n", "\r\r\n"]),
    pattern=st.sampled_from([PATTERN, r"^\d{8}$", None]),
    more=st.sampled_from(["", "dropped", "unnamed", "semicolons"]),
)
def test_blocks_hold_the_same_records_when_numbers_are_mistyped_and_lines_are_broken(rows, end, pattern, more):
    options = {"pattern": pattern} if pattern else {}
    columns = [column("a", required=True), column("b", options=options, **EXPECTS), column("c")]
    if more == "dropped":
        columns.append(column("d", personal="drop"))
    mark = ";" if more == "semicolons" else ","
    contract = csv_contract(columns, delimiter=mark)
    behind = {"dropped": f"{mark}d", "unnamed": mark * 2}.get(more, "")
    body = f"a{mark}b{mark}c{behind}{end}"
    for number, text, bare in rows:
        line = f"1,{number},{text}" if bare else csv_line(["1", number, text])
        body += line.replace(",", mark) + behind.replace("d", "CHAN") + end
    assert in_blocks(contract, body.encode()) == one_by_one(contract, body.encode())


@pytest.mark.parametrize("quoted", [False, True])
def test_a_block_replaces_a_mistyped_number_and_nothing_else_when_one_line_of_many_holds_one(quoted):
    contract = csv_contract(
        [column("a", required=True), column("b", options={"pattern": PATTERN}, **EXPECTS), column("c")]
    )
    lines = [f'{number},"12345678",x' if quoted else f"{number},12345678,x" for number in range(100_000)]
    spoilt = {5: "A123456", 70_000: "A123456/3", 99_999: "\uff21123456"}
    given = [f"{n},{spoilt[n]},x" if n in spoilt else line for n, line in enumerate(lines)]
    given[7] = "7,1234567,x"
    given[8] = "8,A123456(3),x"
    found = blocks(contract, ("a,b,c\n" + "\n".join(given) + "\n").encode())
    written = b"".join(block.data for block in found).decode().splitlines()
    assert {n for n, line in enumerate(written) if line != given[n]} == {*spoilt, 7, 8}
    assert written[8] == f"8,{PRIVATE('A1234563')},x"
    odd = {record.line - 2: record.fields[1] for block in found for record in block.odd}
    assert odd == {
        5: f"invalid_{PRIVATE('A123456')}",
        7: "1234567",
        70_000: f"invalid_{PRIVATE('A1234563')}",
        99_999: f"invalid_{PRIVATE('A123456')}",
    }


NOT_A_DAY = ["2026-07-31T16:00:00.000Z", "2026-07-31 00:00:00+08", "2026-07-31T00:01", "2026-07-31Z", "today", "Now",
             "15/07/26", "15-JUL-26", "150726", "2026-02-29", "31 July 2026"]  # fmt: skip
DAYS = ["2026-07-31", "2026-07-31 00:00:00", "2026-07-31T00:00:00.000", "20260731", "2028-02-29"]


@pytest.mark.parametrize("form", ["csv", "quoted", "with a dropped column", "jsonl", "xlsx", "parquet", "fixed"])
@pytest.mark.parametrize(("value", "is_set_apart"), [(v, True) for v in NOT_A_DAY] + [(v, False) for v in DAYS])
def test_a_date_is_set_apart_when_it_is_not_written_as_most_are(form, value, is_set_apart):
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
    (block,) = blocks(contract, out.getvalue())
    assert [record.fields for record in block.odd] == ([["x", value]] if is_set_apart else [])
    assert (value.encode() in block.data) is not is_set_apart


FORMS = ["csv", "gb18030", "jsonl", "xlsx", "parquet", "fixed"]
TEXTS = [
    "", "x", " x ", "\u8336 \u675c", 'say ""', "a,b", "two\nlines", "12", "null", "true", "\\", "\\n", "\U0001f600",
    "A123456(3)", "%41123456(3)", "a\tb", "[x]", "{x}",
]  # fmt: skip


@given(form=st.sampled_from(FORMS), rows=st.lists(st.tuples(*[st.sampled_from(TEXTS)] * 2), min_size=1, max_size=5))
def test_blocks_hold_the_same_records_in_every_format(form, rows):
    import json

    import xlsxwriter

    columns = [
        column("a", required=True, start=1, length=4),
        column("b", start=5, length=12),
        column("c", personal="drop", start=17, length=3),
        column("d", options={"maxLength": 20}, start=20, length=12),
    ]
    kind = {"gb18030": "csv"}.get(form, form)
    contract = contract_for(Source("s3", "x", kind, encoding=form if form == "gb18030" else "utf-8"), columns)
    given, out = [[f"k{n}", text, "who", other] for n, (text, other) in enumerate(rows)], io.BytesIO()
    names = [c.name for c in columns]
    if kind == "xlsx":
        with xlsxwriter.Workbook(out, {"strings_to_numbers": False, "strings_to_formulas": False}) as book:
            sheet = book.add_worksheet()
            for place, row in enumerate([names, *given]):
                for number, text in enumerate(row):
                    sheet.write_string(place, number, text)
    elif kind == "parquet":
        pq.write_table(pa.table({name: [row[place] for row in given] for place, name in enumerate(names)}), out)
    else:
        text = {
            "csv": lambda row: csv_line(row),
            "jsonl": lambda row: json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=len(row[1]) % 2 == 0),
            "fixed": lambda row: "".join(
                f"{value:{c.length}}"[: c.length] for value, c in zip(row, columns, strict=True)
            ),
        }[kind]
        lines = [text(row) for row in ([names, *given] if kind == "csv" else given)]
        out.write("".join(line + "\n" for line in lines).encode(contract.source.encoding))
    assert in_blocks(contract, out.getvalue()) == one_by_one(contract, out.getvalue())


@pytest.mark.parametrize(
    "options",
    [{"pattern": "^[A-Z]{1,2000}$"}, {"pattern": "^([A-Z]{1,200}){1,200}$"}, {"maxLength": 1000}, {"maxLength": 5}],
    ids=str,
)
def test_blocks_pass_every_line_on_when_columns_may_be_long(options):
    columns = [column(f"c{n}", required=True, options=options) for n in range(40)]
    line = ",".join(["ABC"] * 40)
    body = f"{','.join(c.name for c in columns)}\n{line}\n{line}\n".encode()
    (block,) = blocks(csv_contract(columns), body)
    assert (block.data, block.odd) == (f"{line}\n{line}\n".encode(), [])
    proven = line_pattern.proven_rules(csv_contract(columns))
    assert {"c0.required", "c39.required"} <= proven
    assert ("c0.max_length" in proven) == (options == {"maxLength": 5})
