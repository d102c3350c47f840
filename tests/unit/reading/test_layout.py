"""Column headers of a delivery against its contract."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import date

import pytest
from sampan.contracts.model import Alias
from sampan.errors import PermanentFailure
from sampan.reading.reader import Reader

from tests.unit.reading.deliveries import PRIVATE, csv_contract, reader


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


@pytest.mark.parametrize(
    ("drift", "names", "kinds"),
    [("add_nullable", ["a", "x_new_one"], {"added", "missing"}), ("ignore", ["a"], {"ignored", "missing"})],
)
def test_layout_does_as_the_policy_says_when_a_header_is_unknown(drift, names, kinds):
    layout = reader(csv_contract(drift=drift), b"a,New One!\n1,2\n").layout
    assert [c.name for c in layout.stored] == names
    assert {kind for kind, _, _ in layout.drift} == kinds


@pytest.mark.parametrize(
    "header",
    ["a\x1b[31mb", "x" * 500, "A123456(3)", "雲\u202e", "<script>"],
    ids=["esc", "long", "hkid", "rtl", "tag"],
)
def test_layout_shows_a_hostile_header_only_when_it_is_harmless(header):
    layout = reader(csv_contract(drift="add_nullable"), f"a,{header}\n1,2\n".encode()).layout
    (shown,) = [detail for kind, _, detail in layout.drift if kind == "added"]
    assert len(shown) <= 200
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "A123456" not in (shown + layout.stored[1].name).upper()


@pytest.mark.parametrize("text", ["a,b,A123456(3),A123456(3)\n1,2,3,4\n", "a,b,A123456(3)\n1,2,3\n"])
def test_layout_shows_no_number_of_a_person_when_a_header_is_one(text):
    """A file without its header line begins with a record."""
    with pytest.raises(PermanentFailure) as stopped:
        _ = reader(csv_contract(drift="fail"), text.encode()).layout
    assert "123456" not in str(stopped.value.problem)
    assert "p1_" in str(stopped.value.problem)
