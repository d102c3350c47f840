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
