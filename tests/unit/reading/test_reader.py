"""A delivery as records, without a database: bytes, lines, fields, layouts."""

from __future__ import annotations

import csv
import gzip
import io
import random
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from sampan.contracts import line_pattern as shape
from sampan.contracts.model import Alias, Column, Contract, Source
from sampan.contracts.registry import get_contract
from sampan.errors import PermanentFailure
from sampan.reading import reader as reading
from sampan.reading.personal_data import PSEUDONYM, Pseudonymiser

from tests.factory import DAY

PRIVATE = Pseudonymiser(b"k" * 32, 1)


def column(name: str, kind: str = "string", **more) -> Column:
    return Column(name, more.pop("source_name", name), kind, f"Column {name}.", **more)


def contract_for(source: Source, columns: list[Column], **more) -> Contract:
    return replace(get_contract("customs_declarations"), source=source, columns=tuple(columns), aliases=(), **more)


def csv_contract(columns: list[Column] | None = None, delimiter: str = ",", **more) -> Contract:
    columns = columns or [column("a", required=True), column("b"), column("c")]
    return contract_for(Source("s3", "s3://drop/x", "csv", delimiter=delimiter), columns, **more)


def reader(contract: Contract, body: bytes) -> reading.Reader:
    return reading.Reader(contract, lambda: io.BytesIO(body), DAY, "file", PRIVATE)


def records(contract: Contract, text: str | bytes) -> list[reading.Record]:
    return list(reader(contract, text.encode() if isinstance(text, str) else text).records())


def refused(contract: Contract, text: str | bytes) -> str:
    with pytest.raises(PermanentFailure) as failure:
        records(contract, text)
    return failure.value.problem.rule


# --- bytes ------------------------------------------------------------------------------------------------------------


class Trickle(io.BytesIO):
    """Gives fewer bytes than it is asked for, as a network does."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size, 777) if size and size > 0 else size)


def unpacked(contract: Contract, body: bytes, stream: type[io.BytesIO] = io.BytesIO) -> bytes:
    return b"".join(reading.Reader(contract, lambda: stream(body), DAY, "file", PRIVATE)._bytes())


def packed(compression: str) -> Contract:
    return contract_for(Source("s3", "s3://drop/x", "csv", compression=compression), [column("a")])


PACK = {"gzip": lambda data: gzip.compress(data, 1), "zstd": zstandard.ZstdCompressor(level=1).compress, "none": bytes}


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(0, 4 * reading.BLOCK + 5),
    grain=st.sampled_from([1, 3, 1000, 100_000]),
    kind=st.sampled_from(sorted(PACK)),
    stream=st.sampled_from([io.BytesIO, Trickle]),
)
def test_bytes_come_back_whole_when_they_were_compressed(size, grain, kind, stream):
    data = (random.Random(size).randbytes(grain) * (size // grain + 1))[:size]
    assert unpacked(packed(kind), PACK[kind](data), stream) == data


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("size", [0, 1, reading.BLOCK * 4, reading.BLOCK * 4 + 1, 5_000_000])
def test_bytes_come_back_whole_when_they_shrink_a_thousandfold(kind, size):
    assert unpacked(packed(kind), PACK[kind](b"\n" * size)) == b"\n" * size


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_bytes_come_back_whole_when_a_file_has_several_members(kind):
    parts = [b"one\n" * 1000, b"", b"two\n" * 1000]
    assert unpacked(packed(kind), b"".join(map(PACK[kind], parts))) == b"".join(parts)


def test_bytes_come_back_whole_when_a_gzip_is_padded_with_zeros():
    assert unpacked(packed("gzip"), gzip.compress(b"one\n") + b"\0" * 1000) == b"one\n"


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_bytes_are_refused_when_any_of_the_end_is_missing(kind):
    body = PACK[kind](random.Random(1).randbytes(3000))
    for cut in range(1, len(body), 97):
        with pytest.raises(PermanentFailure) as failure:
            unpacked(packed(kind), body[:-cut])
        assert failure.value.problem.rule in ("delivery.truncated", "delivery.corrupt")


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_bytes_are_refused_or_right_when_a_bit_is_flipped(kind):
    data = random.Random(2).randbytes(2000) * 3
    body, chance = bytearray(PACK[kind](data)), random.Random(3)
    for _ in range(200):
        place, bit = chance.randrange(len(body)), 1 << chance.randrange(8)
        body[place] ^= bit
        # A frame of zstd need not carry a checksum; one of gzip always does.
        with suppress(PermanentFailure):
            assert unpacked(packed(kind), bytes(body)) == data or kind == "zstd"
        body[place] ^= bit


def test_bytes_are_refused_when_they_are_more_than_the_contract_allows():
    contract = replace(packed("none"), source=Source("s3", "x", "csv", max_bytes=1000))
    with pytest.raises(PermanentFailure) as failure:
        unpacked(contract, b"a\n" * 600)
    assert failure.value.problem.rule == "delivery.too_large"


# --- CSV --------------------------------------------------------------------------------------------------------------


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
    assert not reader(contract, b"a;b;c\n").fast


def test_pick_gives_the_wanted_lines_when_some_span_several():
    text = 'a,b,c\n1,2,3\n"x\ny",2,3\n4,5,6\n7,8,9\n'
    assert [record.fields[0] for record in reader(csv_contract(), text.encode()).pick({3, 5})] == ["x\ny", "4"]


def test_text_of_a_record_is_verbatim_unless_something_was_taken_out():
    drop = csv_contract([column("a", required=True), column("b", personal="drop"), column("c")])
    assert records(csv_contract(), 'a,b,c\n"1", 2,3\n')[0].text == '"1", 2,3'
    assert records(drop, 'a,b,c\n"1", 2,3\n')[0].text == "1,3"
    assert "secret" not in records(drop, "a,b,c\n1,secret\n")[0].text
    assert records(csv_contract(), "a,b,c\n1,A123456(3),3\n")[0].text.startswith("1,p1_")
    assert "A123456" not in records(csv_contract(), "a,b,c\n1,A123456(3)\n")[0].text


@pytest.mark.parametrize(
    ("personal", "pattern", "fast"),
    [("none", None, True), ("drop", None, False), ("pseudonymise", None, False), ("pseudonymise", "hkid", True)],
)
def test_the_fast_way_is_taken_only_when_no_value_must_be_touched(personal, pattern, fast):
    columns = [column("a", required=True), column("b", personal=personal, personal_pattern=pattern)]
    assert reader(csv_contract(columns), b"a,b\n1,2\n").fast is fast


def test_whole_columns_are_withheld_from_a_broken_record_when_they_are_pseudonymised():
    columns = [column("a", required=True), column("b", personal="pseudonymise")]
    (record,) = records(csv_contract(columns), "a,b\nsecret\n")
    assert "secret" not in record.text


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
        (b"a,b,c\n" + b"x" * (reading.MAX_RECORD_BYTES + 2 * reading.BLOCK), "record_too_long"),
        (b"x" * (reading.MAX_RECORD_BYTES + 2 * reading.BLOCK), "record_too_long"),
    ],
    ids=range(9),
)
def test_records_are_refused_when_the_headings_or_a_line_make_no_sense(body, rule):
    assert refused(csv_contract(), body) == f"delivery.{rule}"


def test_the_fast_way_refuses_a_line_without_end_too():
    with pytest.raises(PermanentFailure) as failure:
        list(reader(csv_contract(), b"a,b,c\n" + b"x" * (reading.MAX_RECORD_BYTES + 2 * reading.BLOCK)).blocks())
    assert failure.value.problem.rule == "delivery.record_too_long"


@pytest.mark.parametrize("size", [53, 1000, reading.BLOCK - 1, reading.BLOCK, reading.BLOCK + 1])
def test_blocks_end_with_a_line_and_lose_none_when_the_stream_is_cut_anywhere(size):
    lines = [f"{number},{'x' * (number % 50)},\n" for number in range(3 * reading.BLOCK // 40)]
    body = ("a,b,c\n" + "".join(lines)).encode()

    class Pieces(io.BytesIO):
        def read(self, wanted: int | None = -1) -> bytes:
            return super().read(min(size, wanted or size))

    blocks = list(reading.Reader(csv_contract(), lambda: Pieces(body), DAY, "file", PRIVATE).blocks())
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
def test_both_ways_replace_the_same_when_numbers_are_misspelt(rows, end, pattern):
    options = {"pattern": pattern} if pattern else {}
    contract = csv_contract([column("a", required=True), column("b", options=options, **EXPECTS), column("c")])
    body = f"a,b,c{end}"
    for number, text, bare in rows:
        body += f"1,{number},{text}{end}" if bare else reading._csv_line(["1", number, text]) + end
    try:
        fast = b"".join(reader(contract, body.encode()).blocks()).decode()
    except reading.Unusual:
        return
    found = records(contract, body)
    assert [["1", r.fields[1] or "", r.fields[2] or ""] for r in found] == list(
        csv.reader(io.StringIO(fast, newline=""))
    )
    assert not any(record.broken for record in found)


@pytest.mark.parametrize("quoted", [False, True])
def test_the_fast_way_replaces_a_misspelt_number_and_nothing_else_when_one_line_of_many_holds_one(quoted):
    contract = csv_contract(
        [column("a", required=True), column("b", options={"pattern": PATTERN}, **EXPECTS), column("c")]
    )
    lines = [f'{number},"12345678",x' if quoted else f"{number},12345678,x" for number in range(100_000)]
    spoilt = {5: "A123456", 70_000: "A123456/3", 99_999: "\uff21123456"}
    given = [f"{n},{spoilt[n]},x" if n in spoilt else line for n, line in enumerate(lines)]
    given[7] = "7,1234567,x"
    one = reader(contract, ("a,b,c\n" + "\n".join(given) + "\n").encode())
    found = b"".join(one.blocks()).decode().splitlines()
    assert not one.in_shape
    assert {n for n, line in enumerate(found) if line != given[n]} == set(spoilt)
    assert found[5] == f"5,invalid_{PRIVATE('A123456')},x"
    assert found[70_000] == f"70000,invalid_{PRIVATE('A1234563')},x"


@pytest.mark.parametrize(
    "line", ["1,A123456", "1,A123456,x,surplus", '1,"A123456,x', '1,A123456,"two\nlines"', "1,A\xff123456,x"]
)
def test_the_fast_way_gives_up_before_the_database_sees_it_when_a_line_cannot_be_split(line):
    contract = csv_contract(
        [column("a", required=True), column("b", options={"pattern": PATTERN}, **EXPECTS), column("c")]
    )
    with pytest.raises(reading.Unusual):
        list(reader(contract, f"a,b,c\n{line}\n".encode("latin-1")).blocks())
    (record, *_) = records(contract, f"a,b,c\n{line}\n".encode("latin-1"))
    assert "123456" not in re.sub("_[0-9a-f]{64}", "", f"{record.text} {record.fields}")


# --- layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("day", "found"), [(date(2026, 7, 5), "header_missing_column"), (date(2026, 7, 6), None)])
def test_layout_knows_an_alias_from_its_day_on(day, found):
    contract = replace(csv_contract(drift="ignore"), aliases=(Alias("A", "a", date(2026, 7, 6)),))
    one = reading.Reader(contract, lambda: io.BytesIO(b"A,b,c\n1,2,3\n"), day, "file", PRIVATE)
    if found:
        with pytest.raises(PermanentFailure, match=found):
            _ = one.layout
    else:
        assert [c.name for c in one.layout.stored] == ["a", "b", "c"]
        assert one.layout.drift == [("renamed", "a", "A")]


@pytest.mark.parametrize(
    ("drift", "names", "kinds"),
    [("add_nullable", ["a", "x_new_one"], {"added", "missing"}), ("ignore", ["a"], {"ignored", "missing"})],
)
def test_layout_does_as_the_policy_says_when_a_heading_is_unknown(drift, names, kinds):
    layout = reader(csv_contract(drift=drift), b"a,New One!\n1,2\n").layout
    assert [c.name for c in layout.stored] == names
    assert {kind for kind, _, _ in layout.drift} == kinds


@pytest.mark.parametrize(
    "heading",
    ["a\x1b[31mb", "x" * 500, "A123456(3)", "雲\u202e", "<script>"],
    ids=["esc", "long", "hkid", "rtl", "tag"],
)
def test_layout_shows_a_hostile_heading_only_when_it_is_harmless(heading):
    layout = reader(csv_contract(drift="add_nullable"), f"a,{heading}\n1,2\n".encode()).layout
    (shown,) = [detail for kind, _, detail in layout.drift if kind == "added"]
    assert len(shown) <= 200
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "A123456" not in (shown + layout.stored[1].name).upper()


# --- JSON Lines, fixed width ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"x"', "x"), ("1.10", "1.10"), ("12345678901234567890", "12345678901234567890"), ("true", "true"), ("null", None),
        ('""', None), ("1e400", "1e400"), ("NaN", "NaN"), ('{"k": ["é"]}', '{"k": ["é"]}'), ("[]", "[]"),
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
    assert [record.text for record in found] == ["1,", '1,"{""k"": ""2""}"', lines[2]]


def test_fixed_width_records_are_cut_at_their_places():
    columns = [column("a", start=1, length=3, required=True), column("b", "integer", start=4, length=4)]
    contract = contract_for(Source("s3", "x", "fixed"), columns)
    found = records(contract, "abc  12\r\nx     3\n\nabcd\nabc  123\n")
    assert [(r.line, r.fields, r.broken) for r in found] == [
        (1, ["abc", "12"], []),
        (2, ["x", "3"], []),
        (4, [None, None], ["record.too_short"]),
        (5, [None, None], ["record.too_long"]),
    ]


@pytest.mark.parametrize("text", ["a,b,A123456(3),A123456(3)\n1,2,3,4\n", "a,b,A123456(3)\n1,2,3\n"])
def test_layout_shows_no_number_of_a_person_when_a_heading_is_one(text):
    """A file without its heading line begins with a record."""
    with pytest.raises(PermanentFailure) as stopped:
        _ = reader(csv_contract(drift="fail"), text.encode()).layout
    assert "123456" not in str(stopped.value.problem)
    assert "p1_" in str(stopped.value.problem)


# --- Parquet, XLSX ----------------------------------------------------------------------------------------------------

PARQUET = contract_for(Source("s3", "x", "parquet"), [column("a", required=True), column("b", "date")])
XLSX = contract_for(Source("s3", "x", "xlsx"), [column("a", required=True), column("b", "date")])


def parquet(values: pa.Array, **options) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": values, "b": ["2026-07-06"] * len(values)}), out, **options)
    return out.getvalue()


def both_refuse(contract: Contract, body: bytes) -> str:
    """The rule by which a delivery is refused, on the fast way, too, unless that leaves it to the exact one."""
    rules = set()
    for way in ("records", "blocks")[: 1 + (contract.source.format == "parquet")]:
        with pytest.raises((PermanentFailure, reading.Unusual)) as failure:
            list(getattr(reader(contract, body), way)())
        if way == "records" or isinstance(failure.value, PermanentFailure):
            rules.add(failure.value.problem.rule)
    (rule,) = rules
    return rule


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
    for way in ("records", "blocks"):
        try:
            with suppress(reading.Unusual):
                list(getattr(reader(PARQUET, body), way)())
        except PermanentFailure as failure:
            problems.append(failure.problem)
    assert all(problem.rule.startswith("delivery.") for problem in problems)
    assert "secret" not in str(problems)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), ["x" * 100_000]), {}),
        (pa.array(["x" * 100_000] * 2000), {"use_dictionary": False, "column_encoding": {"a": "DELTA_BYTE_ARRAY"}}),
        (pa.array([b"x" * 100_000] * 2000, pa.binary(100_000)), {}),
        (pa.array([["x" * 100_000]] * 2000), {}),
    ],
    ids=["dictionary", "prefixes", "fixed", "lists"],
)
def test_a_parquet_file_is_refused_when_few_bytes_stand_for_many(values, options):
    body = parquet(values, **options)
    assert len(body) < 150_000
    assert both_refuse(PARQUET, body) == "delivery.too_large"


def test_a_parquet_file_is_refused_when_one_value_is_longer_than_a_record_may_be():
    assert both_refuse(PARQUET, parquet(pa.array(["x", "y" * 1_100_000]))) == "delivery.record_too_long"


def test_a_parquet_file_is_read_whole_when_it_is_decoded_in_parts(monkeypatch):
    monkeypatch.setattr(reading, "PARQUET_BYTES", 1000)
    texts = [None if n % 7 == 0 else f"text {n % 100} " * (n % 9) for n in range(3000)]
    for options in ({}, {"use_dictionary": False}, {"row_group_size": 700}):
        found = list(reader(PARQUET, parquet(pa.array(texts), **options)).records())
        assert [(record.line, record.fields[0]) for record in found] == list(enumerate((t or None for t in texts), 1))


SHEET = "xl/worksheets/sheet1.xml"


def workbook(changes: dict[str, Callable[[bytes], bytes]] | None = None, rename: tuple[str, str] = ("", "")) -> bytes:
    """A workbook of two columns and one record, some of its members changed or renamed."""
    import xlsxwriter

    out, changed = io.BytesIO(), io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        sheet = book.add_worksheet("CHAN A123456(3)")
        sheet.write_row(0, 0, ["a", "b"])
        sheet.write_row(1, 0, ["x", "2026-07-06"])
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            data = (changes or {}).get(item.filename, bytes)(old.read(item))
            new.writestr(rename[1] if item.filename == rename[0] else item.filename, data)
    return changed.getvalue()


def test_a_workbook_is_read_when_it_is_packed_anew():
    assert [record.fields for record in reader(XLSX, workbook()).records()] == [["x", "2026-07-06"]]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'r="B2"', b'r ="XFD100000"'),
        (b'r="B2"', b"r='XFD100000'"),
        (b'r="B2"', b'r="A99999999999"'),
        (b'r="B2"', b'r="ZZZZZZZZZ9"'),
        (b'r="B2"', b'r="XFE2"'),
        (b'<row r="2"', b'<row r="99999999999"'),
        (b"</sheetData>", b"<row/>" * 1_100_000 + b"<row><c><v>1</v></c></row></sheetData>"),
        (b"</sheetData>", b"<row>" + b"<c/>" * 20_000 + b"<c><v>1</v></c></row></sheetData>"),
    ],
    ids=["blank", "quotes", "row", "letters", "column", "row of rows", "rows without place", "cells without place"],
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_workbook_is_refused_before_it_is_opened_when_a_cell_lies_far_away(old, new, elsewhere):
    def far(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    def target(data: bytes) -> bytes:
        return data.replace(b"worksheets/sheet1.xml", b"elsewhere.xml")

    changes = {SHEET: far} | ({"xl/_rels/workbook.xml.rels": target} if elsewhere else {})
    body = workbook(changes, (SHEET, "xl/elsewhere.xml") if elsewhere else ("", ""))
    assert both_refuse(XLSX, body) in ("delivery.too_large", "delivery.corrupt")


def test_a_workbook_shows_no_number_of_a_person_when_its_sheet_is_named_by_one():
    contract = contract_for(Source("s3", "x", "xlsx", sheet="Sales"), [column("a")])
    with pytest.raises(PermanentFailure) as failure:
        _ = reader(contract, workbook()).layout
    assert failure.value.problem.rule == "delivery.sheet_missing"
    assert "A123456" not in str(failure.value.problem)
    assert "CHAN" in str(failure.value.problem)


def test_a_workbook_is_refused_when_it_has_no_sheet_at_all():
    body = workbook({"xl/workbook.xml": lambda data: re.sub(b"<sheets>.*</sheets>", b"<sheets/>", data)})
    assert both_refuse(XLSX, body) == "delivery.sheet_missing"


def test_a_workbook_is_read_or_refused_when_any_of_its_bytes_is_another():
    body, chance = bytearray(workbook()), random.Random(5)
    refused = 0
    for _ in range(600):
        place, bit = chance.randrange(len(body)), 1 << chance.randrange(8)
        body[place] ^= bit
        try:
            list(reader(XLSX, bytes(body)).records())
        except PermanentFailure:
            refused += 1
        body[place] ^= bit
    assert refused > 100


# --- what only the exact way can judge --------------------------------------------------------------------------------

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


@pytest.mark.parametrize("way", ["csv", "quoted", "with a dropped column", "jsonl", "xlsx", "parquet", "fixed"])
@pytest.mark.parametrize(("value", "sound"), [(v, False) for v in LATE] + [(v, True) for v in SOUND])
def test_a_delivery_is_left_to_the_exact_way_when_a_date_has_a_time_or_is_a_word(way, value, sound):
    import xlsxwriter

    columns = [column("a", required=True, start=1, length=1), column("b", "date", start=2, length=30)]
    kind = {"quoted": "csv", "with a dropped column": "csv"}.get(way, way)
    if way == "with a dropped column":
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
        quoted = f'"{value}"' if way == "quoted" else value
        more = ("c", "secret") if way == "with a dropped column" else None
        line = ",".join(["x", quoted, *(more or ())[1:]])
        text = {"csv": f"{'a,b,c' if more else 'a,b'}\n{line}\n", "jsonl": f'{{"a": "x", "b": "{value}"}}\n',
                "fixed": f"x{value:30}\n"}[kind]  # fmt: skip
        out.write(text.encode())
    one = reader(contract, out.getvalue())
    typed = one.blocks() if one.fast else reading.csv_blocks(one.records(), one.layout.stored)
    if sound:
        assert value.encode() in b"".join(typed)
    else:
        with pytest.raises(reading.Unusual):
            list(typed)


@pytest.mark.parametrize(
    "text", ['{"a": "\\u0041123456(3)"', '["\\u0041123456\\uff083\\uff09"]', '{"a": "\\ud83d \\u0041123456(3)']
)
def test_a_broken_json_line_shows_no_number_when_it_is_spelt_by_codes(text):
    contract = contract_for(Source("s3", "x", "jsonl"), [column("a", required=True)])
    (record,) = records(contract, text)
    assert "123456" not in PSEUDONYM.sub("", record.text)
    assert PSEUDONYM.search(record.text)
    (record,) = records(contract, '["\\u0042 \\ud83d"]')
    assert record.text == '["\\u0042 \\ud83d"]'


def test_one_record_is_broken_when_json_is_nested_as_deep_as_it_can_be_read():
    contract = contract_for(Source("s3", "x", "jsonl"), [column("a", required=True), column("b")])
    for depth in range(300, 1100, 4):
        deep = f'{{"a": "1", "b": {"[" * depth}{"]" * depth}}}'
        found = records(contract, f'{deep}\n{{"a": "2"}}\n')
        assert [record.fields[0] for record in found][1] == "2"


def test_the_fast_way_loses_no_line_when_a_block_does_not_end_with_one():
    contract = csv_contract([column("a", required=True), column("b", options={"pattern": PATTERN}, **EXPECTS)])
    one = reader(contract, b"a,b\n")
    block = one._looked_at(b"1,A123456\n2,A123457", re.compile(b"never"))
    assert block == f"1,invalid_{PRIVATE('A123456')}\n2,invalid_{PRIVATE('A123457')}".encode()


@pytest.mark.parametrize(
    "options",
    [{"pattern": "^[A-Z]{1,2000}$"}, {"pattern": "^([A-Z]{1,200}){1,200}$"}, {"maxLength": 1000}, {"maxLength": 5}],
    ids=str,
)
def test_the_fast_way_passes_every_line_on_when_columns_may_be_long(options):
    columns = [column(f"c{n}", required=True, options=options) for n in range(40)]
    line = ",".join(["ABC"] * 40)
    one = reader(csv_contract(columns), f"{','.join(c.name for c in columns)}\n{line}\n{line}\n".encode())
    assert b"".join(one.blocks()) == f"{line}\n{line}\n".encode()
    assert one.in_shape
    proved = shape.rules(replace(csv_contract(columns)))
    assert {"c0.required", "c39.required"} <= proved
    assert ("c0.max_length" in proved) == (options == {"maxLength": 5})
