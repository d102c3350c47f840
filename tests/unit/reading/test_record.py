"""What a record shows of the text that was delivered."""

from __future__ import annotations

from tests.unit.reading.deliveries import column, csv_contract, records


def test_text_of_a_record_is_verbatim_unless_something_was_taken_out():
    drop = csv_contract([column("a", required=True), column("b", personal="drop"), column("c")])
    assert records(csv_contract(), 'a,b,c\n"1", 2,3\n')[0].text == '"1", 2,3'
    assert records(drop, 'a,b,c\n"1", 2,3\n')[0].text == "1,3"
    assert "secret" not in records(drop, "a,b,c\n1,secret\n")[0].text
    assert records(csv_contract(), "a,b,c\n1,A123456(3),3\n")[0].text.startswith("1,p1_")
    assert "A123456" not in records(csv_contract(), "a,b,c\n1,A123456(3)\n")[0].text


def test_whole_columns_are_withheld_from_a_broken_record_when_they_are_pseudonymised():
    columns = [column("a", required=True), column("b", personal="pseudonymise")]
    (record,) = records(csv_contract(columns), "a,b\nsecret\n")
    assert "secret" not in record.text
