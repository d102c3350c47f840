"""Column headers of a delivery against its contract."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import date

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from sampan.contracts.model import Alias, Bounds, Contract, Source
from sampan.errors import PermanentFailure
from sampan.reading import limits
from sampan.reading.formats import FORMATS
from sampan.reading.reader import Reader

from tests.factory import _xlsx, encode
from tests.unit.reading.deliveries import PRIVATE, column, contract_for, csv_contract, reader, records, refused

HEADED = ["csv", "jsonl", "parquet", "xlsx"]


@pytest.mark.parametrize(("day", "found"), [(date(2026, 7, 5), "header_missing_column"), (date(2026, 7, 6), None)])
def test_layout_knows_an_alias_from_its_day_on(day, found):
    contract = replace(csv_contract(drift="ignore"), aliases=(Alias("A", "a", date(2026, 7, 6)),))
    one = Reader(contract, lambda: io.BytesIO(b"A,b,c\n1,2,3\n"), day, "file", PRIVATE)
    if found:
        with pytest.raises(PermanentFailure, match=found):
            _ = one.layout
    else:
        assert [c.name for c in one.layout.stored] == ["a", "b", "c"]
        assert one.layout.drift == [("renamed", "a", "A")]


@pytest.mark.parametrize("drift", ["note", "ignore"])
def test_layout_notes_an_unknown_header_and_stores_nothing_of_it(drift):
    one = reader(csv_contract(drift=drift), b"a,New One!\n1,2\n")
    assert [c.name for c in one.layout.stored] == ["a"]
    assert [entry[:2] for entry in one.layout.drift] == [("unknown", "new_one"), ("missing", "b"), ("missing", "c")]
    assert [record.fields for record in one.records()] == [["1"]]
    assert all("2" not in record.text for record in one.records())


@pytest.mark.parametrize(
    "header",
    ["a\x1b[31mb", "x" * 500, "A123456(3)", "雲\u202e", "<script>"],
    ids=["esc", "long", "hkid", "rtl", "tag"],
)
def test_layout_shows_a_hostile_header_only_when_it_is_harmless(header):
    layout = reader(csv_contract(drift="note"), f"a,{header}\n1,2\n".encode()).layout
    ((name, shown),) = [(name, detail) for kind, name, detail in layout.drift if kind == "unknown"]
    assert len(shown) <= 200
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "A123456" not in (shown + name).upper()


def of_format(kind: str, drift: str = "note") -> Contract:
    """A contract of a format with an optional column that is personal data."""
    columns = [column("a", required=True), column("mobile", personal="drop")]
    return contract_for(Source("s3", "s3://drop/x", kind), columns, drift=drift)


def test_every_format_with_headers_is_covered():
    assert set(HEADED) == set(FORMATS) - {"fixed"}


@pytest.mark.parametrize("drift", ["note", "ignore"])
@pytest.mark.parametrize("kind", HEADED)
def test_layout_refuses_an_unknown_column_when_a_personal_one_is_missing_in_any_format(kind, drift):
    """Kind of fault: a guard that works for some formats only. JSON Lines took every column of the contract for present."""
    contract, given = of_format(kind, drift), [{"a": "x", "mobile": "91234567"}] * 3
    assert refused(contract, encode(contract, given, renamed={"mobile": "contact"})) == "delivery.header_personal_data"
    assert len(records(contract, encode(contract, given, without=["mobile"]))) == 3
    assert len(records(contract, encode(contract, given, added={"contact": ["b"] * 3}))) == 3


@pytest.mark.parametrize("kind", HEADED)
def test_layout_refuses_a_delivery_when_no_record_has_a_required_column_in_any_format(kind):
    contract, given = of_format(kind), [{"a": "x", "mobile": None}] * 3
    assert refused(contract, encode(contract, given, without=["a"])) == "delivery.header_missing_column"


@pytest.mark.parametrize("kind", HEADED)
def test_reader_says_type_and_number_of_the_values_of_unknown_columns_in_any_format(kind):
    columns = {
        "Count": ("integer", 3, ["1", "-20", None, "0"]),
        "Weight": ("number", 2, ["1.5", None, "", "2"]),
        "Day": ("date", 3, ["2026-07-06", "2026-07-07", None, "2026-07-08"]),
        "Signed": ("boolean", 1, [None, "true", None, None]),
        "Code": ("string", 3, ["0071", "12", "13", None]),
        "Nothing": (None, 0, [None, "", None, None]),
        "At": ("timestamp", 1, ["2026-07-06 08:00:00", None, None, None]),
        "聯絡電話": ("string", 4, ["9123 4567", "5", "6", "7"]),
    }
    contract = of_format(kind)
    given = [{"a": "x", "mobile": None}] * 4
    one = reader(contract, encode(contract, given, added={name: values for name, (_, _, values) in columns.items()}))
    found = [(noted.type, noted.filled) for noted in one.unknown_columns()]
    assert found == [(kind, filled) for kind, filled, _ in columns.values()]
    assert [noted.name for noted in one.unknown_columns()] == [
        name for kind, name, _ in one.layout.drift if kind == "unknown"
    ]
    assert len({noted.name for noted in one.unknown_columns()}) == len(columns)
    assert [record.fields for record in one.records()] == [["x"]] * 4
    assert "9123" not in str(list(one.records()))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_values_of_unknown_columns_cost_a_bounded_time(kind, monkeypatch):
    """Fault: a large sound delivery was read once more, for counting only, and held when that took too long."""
    table = pa.table({"a": ["1"] * 50, "extra": ["2026-08-01"] * 50})
    out = io.BytesIO()
    pq.write_table(table, out) if kind == "parquet" else pa_csv.write_csv(table, out)
    contract = contract_for(Source("s3", "x", kind), [column("a", required=True)], drift="note")
    monkeypatch.setattr(limits, "UNKNOWN_COLUMN_SECONDS", 0.0)
    (noted,) = reader(contract, out.getvalue()).unknown_columns()
    assert (noted.type, noted.filled, noted.is_counted) == ("date", 1, False)


def test_the_values_of_unknown_columns_hold_no_delivery():
    bounds = Bounds(20_000_000_000, 1 << 28, 1)
    contract = contract_for(Source("s3", "x", "csv", bounds=bounds), [column("a", required=True)], drift="note")
    body = b"a,extra\n" + b"1,2026-08-01\n" * 2_000_000
    assert reader(contract, body).unknown_columns() == []


@pytest.mark.parametrize("kind", ["csv", "jsonl", "xlsx"])
def test_reader_withholds_a_record_that_it_cannot_split_when_a_column_is_unknown(kind):
    """Kind of fault: a value outside the contract that is kept with the text of a broken record."""
    contract = contract_for(Source("s3", "s3://drop/x", kind), [column("a"), column("b")], drift="note")
    given = [{"a": "x", "b": "y"}] * 2
    body = encode(contract, given, added={"contact": ["91234567", "91234568"]})
    if kind == "xlsx":
        body = _xlsx(contract, ["a", "b", "contact", ""], ["text"] * 4, [["x", "y", "91234567", "surplus"]])
    else:
        body += b"x,y,91234567,surplus\n" if kind == "csv" else b'{"a": "x", "contact": "91234567\n'
    found = records(contract, body)
    assert any(record.broken for record in found)
    assert "9123456" not in str(found)


@pytest.mark.parametrize("text", ["a,b,A123456(3),A123456(3)\n1,2,3,4\n", "a,b,A123456(3)\n1,2,3\n"])
def test_layout_shows_no_number_of_a_person_when_a_header_is_one(text):
    """A file without its header line begins with a record."""
    with pytest.raises(PermanentFailure) as stopped:
        _ = reader(csv_contract(drift="fail"), text.encode()).layout
    assert "123456" not in str(stopped.value.problem)
    assert "[HKID]" in str(stopped.value.problem)


def test_a_key_counts_when_its_line_has_a_number_that_python_finds_too_long():
    """A personal column that is renamed passes unseen when each line has a number of 5,000 digits (H4)."""
    columns = [column("a", required=True), column("b", personal="drop")]
    contract = replace(contract_for(Source("s3", "s3://drop/x", "jsonl"), columns), drift="note")
    with pytest.raises(PermanentFailure) as failure:
        _ = reader(contract, f'{{"a": {"9" * 5000}, "mobile": "x"}}\n'.encode()).layout
    assert failure.value.problem.rule == "delivery.header_personal_data"
