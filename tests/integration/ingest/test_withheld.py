"""Cells that slipped into other columns: what quarantine keeps of their row, and the way back for it.

Case 01 of the reported inputs. The kind of fault: what comes without a name beside it (cells, not keys) may stand in another
column than it is of, so a column that is not stored shows in one that is.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sampan.contracts.registry import get_contract
from sampan.contracts.values import WITHHELD
from sampan.errors import PermanentFailure
from sampan.ingest import ledger, quarantine, reload

from tests.factory import DAY, Row, encode, feeds, hkid, rows, stored
from tests.integration.ingest.deliveries import body_of, ingested, lines_of, name_of

SLIPPING = feeds(
    lambda c: c.source.format in ("csv", "fixed", "xlsx") and any(x.personal == "drop" for x in c.columns), least=3
)
FESTIVAL, MISSIONS, ORDERS, SHIPMENTS = "festival_participants", "trade_missions", "platform_orders", "hkecic_shipments"
PERSON, TELEPHONE = "Synthetic Person", "91234567"
MANY = 60


def slipped(feed: str, row: Row, lost: str) -> Row:
    """The row with the cell of a column deleted, all behind it one place to the left."""
    names = [column.name for column in get_contract(feed).columns]
    values = [row[name] for name in names if name != lost]
    return dict(zip(names, [*values, None], strict=True))


def dropped(feed: str) -> list[str]:
    return [column.name for column in get_contract(feed).columns if column.personal == "drop"]


def kept(partner, feed: str) -> str:
    """Everything that the database and a steward's commands show of the feed's quarantine, with what waits for it."""
    tables = [
        "quarantine.record",
        f'quarantine."{feed}__rows"',
        "ops.alert",
        "ops.batch",
        *(
            f'intake."{name}"'
            for (name,) in partner.sampan.rows("select tablename from pg_tables where schemaname='intake'")
        ),
    ]
    found = [str(partner.sampan.rows(f"select t::text from {table} as t")) for table in tables]
    entries = quarantine.entries(feed)
    assert entries
    return "\n".join([*found, *map(str, entries), *quarantine.export(get_contract(feed), entries)])


@pytest.mark.parametrize("feed", SLIPPING)
def test_quarantine_keeps_no_value_of_a_dropped_column_when_a_cell_was_lost(feed, partner):
    given = rows(feed, MANY)
    first, *_ = dropped(feed)
    columns = [column.name for column in get_contract(feed).columns]
    before = columns[: columns.index(first)]
    # Of the columns before it, the last one then holds the name; of those lost, some are read as if they were not.
    for place, lost in enumerate(before[len(get_contract(feed).key) :]):
        given[place] = slipped(feed, given[place] | dict.fromkeys(dropped(feed), PERSON), lost)
    batch = ingested(partner, feed, encode(get_contract(feed), given))
    assert batch["rows_quarantined" if batch["state"] == "published" else "rows_held"], batch["problem"]
    assert PERSON not in kept(partner, feed)


def test_quarantine_keeps_line_rules_and_codes_when_a_cell_was_lost(partner):
    given = rows(MISSIONS, MANY)
    right = given[4] | {"contact_name": PERSON, "status": "attended", "meetings": "3", "expected_orders_hkd": None}
    given[4] = slipped(MISSIONS, right, "expected_orders_hkd")
    ingested(partner, MISSIONS, encode(get_contract(MISSIONS), given))
    (entry,) = quarantine.entries(MISSIONS)
    assert (entry.line, entry.broken_rules) == (7, ["expected_orders_hkd.type"])
    assert entry.fields == {
        "event_id": right["event_id"],
        "participant_no": right["participant_no"],
        "event_name": WITHHELD,
        "market": right["market"],
        "starts_on": right["starts_on"],
        "ends_on": right["ends_on"],
        # Eight digits are a registration number, and a telephone number too.
        "brn": right["brn"] and WITHHELD,
        "enterprise_name": WITHHELD,
        "status": "attended",
        "meetings": "3",
        "expected_orders_hkd": WITHHELD,
    }
    assert entry.record.startswith("[withheld: ")
    assert entry.details() == [("expected_orders_hkd", "expected_orders_hkd.type", WITHHELD)]


def test_quarantine_keeps_no_telephone_number_when_it_slipped_into_a_column_of_numbers(partner):
    given = rows(FESTIVAL, MANY)
    given[2] |= {"brn": TELEPHONE, "status": PERSON}
    ingested(partner, FESTIVAL, encode(get_contract(FESTIVAL), given))
    text = kept(partner, FESTIVAL)
    assert TELEPHONE not in text
    assert PERSON not in text


def test_a_pseudonym_stays_when_the_text_around_it_is_withheld(partner):
    """By pseudonyms it is seen who tries many numbers; a steward sees a token in place of each."""
    given = rows(FESTIVAL, MANY)
    given[2] |= {"shop_name": f"call {hkid('A', '123456')}", "status": "gone"}
    ingested(partner, FESTIVAL, encode(get_contract(FESTIVAL), given))
    assert partner.sampan.one("select record ~ ' p[0-9]+_[0-9a-f]{64}$' from quarantine.record")
    (entry,) = quarantine.entries(FESTIVAL)
    assert entry.record.endswith("not stored] [pseudonym]")


def test_quarantine_keeps_texts_when_each_value_comes_with_its_name(partner):
    given = rows(ORDERS, MANY)
    given[3]["paid_at"] = "no time"
    ingested(partner, ORDERS, body_of(ORDERS, lines_of(ORDERS, given)))
    (entry,) = quarantine.entries(ORDERS)
    texts = {c.name: given[3][c.name] for c in get_contract(ORDERS).stored if "maxLength" in c.options}
    assert {name: (entry.fields or {})[name] for name in texts} == texts


INSIDE = (
    {"name": PERSON, "mobile": TELEPHONE},
    [PERSON, TELEPHONE],
    [{"of": {"of": PERSON}}],
    {PERSON: None, TELEPHONE: 1},
)
JSON_LINES = feeds(lambda c: c.source.format == "jsonl", least=4)


@pytest.mark.parametrize("feed", JSON_LINES)
def test_quarantine_keeps_nothing_of_what_is_within_a_value(feed, partner):
    """An object in place of a text has names of its own, which no contract knows: a buyer's telephone, say."""
    contract, given = get_contract(feed), rows(feed, MANY)
    others = [column for column in contract.stored if not column.primary_key]
    records = [json.loads(line) for line in lines_of(feed, given)]
    for place, column in enumerate(others):
        records[place][column.source_name] = INSIDE[place % len(INSIDE)]
    batch = ingested(partner, feed, body_of(feed, [json.dumps(record) for record in records]))
    assert batch["rows_held"] or batch["rows_quarantined"] >= len(others)
    assert not [part for part in (PERSON, TELEPHONE, "mobile") if part in kept(partner, feed)]
    entries = {entry.line: entry.fields or {} for entry in quarantine.entries(feed)}
    assert [entries[place + 1][column.name] for place, column in enumerate(others)] == [WITHHELD] * len(others)


@pytest.mark.parametrize("wrapped", [False, True])
def test_quarantine_keeps_nothing_of_what_is_within_a_column_of_parquet(wrapped, partner):
    """Below an extension type a structure passed for a text."""
    contract, given = get_contract(SHIPMENTS), rows(SHIPMENTS, MANY)
    table = pq.read_table(io.BytesIO(encode(contract, given)))
    name = next(column for column in contract.stored if column.type == "text" and not column.primary_key).source_name
    nested = pa.array([INSIDE[0]] * MANY)
    if wrapped:
        nested = pa.ExtensionArray.from_storage(pa.opaque(nested.type, "x", "y"), nested)
    out = io.BytesIO()
    pq.write_table(table.set_column(table.column_names.index(name), name, nested), out)
    assert ingested(partner, SHIPMENTS, out.getvalue())["state"] == "held"
    assert not [part for part in (PERSON, TELEPHONE, "mobile") if part in kept(partner, SHIPMENTS)]


def test_a_row_with_an_object_for_a_text_is_published_once_it_is_corrected(partner, tmp_path):
    given = rows(ORDERS, MANY)
    records = [json.loads(line) for line in lines_of(ORDERS, given)]
    contract = get_contract(ORDERS)
    records[3][contract.column("title").source_name] = INSIDE[0]
    ingested(partner, ORDERS, body_of(ORDERS, [json.dumps(record) for record in records]))
    # As it is, it was published, with the text of the object for a title.
    (entry,) = quarantine.entries(ORDERS)
    with pytest.raises(PermanentFailure, match="no open row that can be replayed"):
        quarantine.replay(ORDERS)
    with pytest.raises(PermanentFailure, match="a list or an object was delivered for title"):
        quarantine.replay(ORDERS, [entry.quarantine_id])
    file = tmp_path / "corrected.csv"
    file.write_text(f"_quarantine_id,title\n{entry.quarantine_id},{given[3]['title']}\n")
    assert quarantine.replay(ORDERS, corrected=file)["published"] == 1
    assert partner.raw(ORDERS) == stored(contract, given)


def broken_status(partner, feed: str = FESTIVAL) -> list[Row]:
    """Deliver rows, one with a status that the contract does not name; the rows as they should be."""
    given = rows(feed, MANY)
    wrong = [row | {"status": "cancelled"} if place == 3 else row for place, row in enumerate(given)]
    partner.hands_over(feed, DAY, wrong)
    assert partner.ingest(feed)["rows_quarantined"] == 1
    return given


@pytest.mark.parametrize("feed", [FESTIVAL, MISSIONS])
def test_replay_takes_from_the_delivery_what_the_corrected_file_leaves_withheld(feed, partner, tmp_path):
    given = broken_status(partner, feed)
    lines = list(quarantine.export(get_contract(feed), quarantine.entries(feed)))
    assert lines[1].count(WITHHELD) >= 3
    table = list(csv.DictReader(lines))
    file = tmp_path / "corrected.csv"
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, table[0].keys())
        writer.writeheader()
        writer.writerow(table[0] | {"status": given[3]["status"]})
    assert quarantine.replay(feed, corrected=file) == {"rows": 1, "published": 1, "quarantined": 0}
    assert partner.raw(feed) == stored(get_contract(feed), given)


def test_replay_as_it_is_takes_values_from_the_delivery_again_and_again(partner, monkeypatch):
    contract, given = get_contract(FESTIVAL), broken_status(partner)
    for _ in range(2):
        assert quarantine.replay(FESTIVAL) == {"rows": 1, "published": 0, "quarantined": 1}
        (entry,) = quarantine.entries(FESTIVAL)
        assert (entry.fields or {})["shop_name"] == WITHHELD
    columns = tuple(replace(c, enum=(*c.enum, "cancelled")) if c.name == "status" else c for c in contract.columns)
    monkeypatch.setattr(ledger, "get_contract", lambda feed: replace(contract, columns=columns))
    assert quarantine.replay(FESTIVAL) == {"rows": 1, "published": 1, "quarantined": 0}
    given[3]["status"] = "cancelled"
    assert partner.raw(FESTIVAL) == stored(contract, given)


def test_replay_leaves_a_field_empty_when_the_corrected_file_empties_it(partner, tmp_path):
    given = broken_status(partner, MISSIONS)
    (entry,) = quarantine.entries(MISSIONS)
    file = tmp_path / "corrected.csv"
    file.write_text(f"_quarantine_id,status,expected_orders_hkd\n{entry.quarantine_id},{given[3]['status']},\n")
    assert quarantine.replay(MISSIONS, corrected=file)["published"] == 1
    given[3]["expected_orders_hkd"] = None
    assert partner.raw(MISSIONS) == stored(get_contract(MISSIONS), given)


def test_a_column_that_the_contract_gained_is_withheld_of_a_row_whose_texts_are(partner):
    contract = get_contract(FESTIVAL)
    given = rows(FESTIVAL, MANY)
    wrong = [row | {"status": "cancelled"} if place == 3 else row for place, row in enumerate(given)]
    body = encode(contract, wrong)
    partner.puts(FESTIVAL, DAY, name_of(FESTIVAL), body)
    partner.ingest(FESTIVAL)
    # As if `shop_name` had not been in the contract when the batch was loaded.
    partner.sampan.rows("update quarantine.record set fields = fields - 'shop_name' returning 1")
    batch = partner.sampan.batch(FESTIVAL)["batch_id"]
    header = contract.column("shop_name").source_name
    partner.sampan.rows(
        "insert into ops.drift (batch_id, kind, column_name, detail) values (%s, 'unknown', 'shop_name', %s) returning 1",
        batch,
        repr(header),
    )
    assert reload.run(FESTIVAL)["batches"] == 1
    fields = partner.sampan.one("select fields::text from quarantine.record")
    assert json.loads(fields)["shop_name"] == WITHHELD
