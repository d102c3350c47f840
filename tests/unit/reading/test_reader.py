"""The reader of a delivery: what all formats have in common."""

from __future__ import annotations

from sampan.contracts.model import FORMATS
from sampan.reading import formats

from tests.unit.reading.deliveries import csv_contract, reader


def test_records_have_the_line_that_they_begin_at_when_some_span_several():
    text = 'a,b,c\n1,2,3\n"x\ny",2,3\n4,5,6\n7,8,9\n'
    found = [(record.line, record.fields[0]) for record in reader(csv_contract(), text.encode()).records()]
    assert found == [(2, "1"), (3, "x\ny"), (5, "4"), (6, "7")]


def test_every_format_of_a_contract_can_be_read():
    assert formats.FORMATS.keys() == set(FORMATS)
