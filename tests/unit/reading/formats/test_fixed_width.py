"""Fixed width: places and lengths."""

from __future__ import annotations

from sampan.contracts.model import Source

from tests.unit.reading.deliveries import column, contract_for, records


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


def test_a_number_of_a_person_that_crosses_fields_is_kept_in_none_of_them():
    """Kind of fault: fields are searched one by one, and a line without separators shows the number in one piece."""
    columns = [
        column("a", start=1, length=6),
        column("b", start=7, length=6),
        column("c", "integer", start=13, length=4),
    ]
    contract = contract_for(Source("s3", "x", "fixed"), columns)
    lines = ["x A123456(3)   x", "   A1234563    x", "A12345 6(3)    x", "ab    cd       x"]
    found = records(contract, "".join(f"{line}\n" for line in lines))
    assert [record.fields for record in found] == [["[withheld]"] * 3] * 3 + [["ab", "cd", "x"]]
    assert [record.text for record in found] == ["[withheld],[withheld],[withheld]"] * 3 + [lines[3]]
