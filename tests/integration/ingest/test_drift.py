"""Partners rename, add, drop and reorder columns: what each contract's policy makes of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sampan.contracts.registry import all_contracts, get_contract
from sampan.errors import PermanentFailure
from sampan.reading import limits
from sampan.settings import settings

from tests.factory import DAY, encode, feeds, representative_feeds, rows, stored
from tests.integration.ingest.deliveries import CUSTOMS
from tests.integration.test_privacy import everything

ALIASES = [(feed, alias) for feed, contract in all_contracts().items() for alias in contract.aliases]
BY_POLICY = {
    policy: feeds(lambda c, p=policy: c.drift == p and c.source.kind == "s3" and c.source.format != "fixed", least=2)
    for policy in ("fail", "note", "ignore")
}


def test_aliases_and_every_policy_are_covered():
    assert len(ALIASES) >= 3
    assert set(BY_POLICY) == {contract.drift for contract in all_contracts().values()}


@pytest.mark.parametrize(
    ("feed", "alias"), ALIASES, ids=lambda value: value if isinstance(value, str) else value.column
)
def test_load_reads_a_renamed_column_from_the_day_on_when_the_contract_knows_the_name(feed, alias, partner):
    contract = get_contract(feed)
    given = rows(feed, 6, alias.since)
    partner.hands_over(feed, alias.since, given, renamed={alias.column: alias.source_name})
    batch = partner.ingest(feed)
    assert batch["state"] == "published", batch["problem"]
    assert partner.raw(feed) == stored(contract, given)
    drift = partner.sampan.rows("select kind, column_name, detail from ops.drift")
    assert ("renamed", alias.column, alias.source_name) in drift
    both = [rows(feed, 6, alias.since - timedelta(days=n), seed=1) for n in (0, 1)]
    for n in (0, 1):
        partner.hands_over(feed, alias.since - timedelta(days=n), both[n], name="as before")
    partner.ingest(feed)
    assert len(partner.raw(feed)) == 18


@pytest.mark.parametrize(
    ("feed", "alias"), ALIASES, ids=lambda value: value if isinstance(value, str) else value.column
)
def test_load_publishes_nothing_of_a_renamed_column_when_the_day_is_still_to_come(feed, alias, partner):
    day = alias.since - timedelta(days=1)
    partner.hands_over(feed, day, rows(feed, 6, day), renamed={alias.column: alias.source_name})
    batch = partner.ingest(feed)
    assert batch["state"] == "held"
    assert batch["problem"]["rule"] in ("delivery.header_missing_column", "delivery.header_unknown_column")
    assert partner.raw(feed) == []


@pytest.mark.parametrize(
    ("feed", "alias"), ALIASES, ids=lambda value: value if isinstance(value, str) else value.column
)
def test_load_holds_the_batch_when_a_column_comes_under_both_names(feed, alias, partner):
    given = rows(feed, 3, alias.since)
    added = {alias.source_name: [row[alias.column] for row in given]}
    partner.hands_over(feed, alias.since, given, added=added)
    assert partner.ingest(feed)["problem"]["rule"] == "delivery.header_repeated"


@pytest.mark.parametrize("feed", representative_feeds(BY_POLICY["fail"]))
def test_load_holds_the_batch_and_names_the_column_when_one_is_added_against_the_policy(feed, partner):
    partner.hands_over(feed, DAY, rows(feed, 3), added={"Colour": ["red"] * 3})
    batch = partner.ingest(feed)
    assert (batch["state"], batch["problem"]["rule"]) == ("held", "delivery.header_unknown_column")
    assert "Colour" in batch["problem"]["message"]


@pytest.mark.parametrize("feed", representative_feeds(BY_POLICY["ignore"] + BY_POLICY["note"]))
def test_load_stores_nothing_of_an_added_column_and_notes_it(feed, partner):
    """Kind of fault: values that no contract has described, personal ones among them, come to a table in clear."""
    contract, given = get_contract(feed), rows(feed, 60)
    key = contract.key[0]
    delivered = [row | ({key: "?"} if n == 0 else {}) for n, row in enumerate(given)]
    added = {"contact_phone": [f"9123{n:04}" if n % 2 == 0 else None for n in range(60)], "備註": ["CHAN Tai Man"] * 60}
    partner.hands_over(feed, DAY, delivered, added=added)
    batch = partner.ingest(feed)
    assert (batch["rows_published"], batch["rows_quarantined"]) == (59, 1), batch["problem"]
    assert partner.raw(feed) == stored(contract, given[1:])
    found = everything(settings().dsn("admin"))
    assert "91230000" not in found
    assert "CHAN Tai Man" not in found
    noted = partner.sampan.rows(
        "select column_name, detail, data_type, filled from ops.drift where kind = 'unknown' order by drift_id"
    )
    counted = contract.drift == "note"
    assert [row[:2] for row in noted] == [("contact_phone", "'contact_phone'"), (noted[1][0], "'備註'")]
    assert [row[2:] for row in noted] == ([("integer", 30), ("string", 60)] if counted else [(None, None)] * 2)
    assert partner.sampan.one("select count(*) from ops.alert where kind = 'drift'") == int(counted)


def test_load_alerts_the_owner_once_for_each_new_column(partner):
    feed = BY_POLICY["note"][0]
    for number, names in enumerate((["a1"], ["a1"], ["a1", "b1"])):
        day = DAY + timedelta(days=number)
        partner.hands_over(feed, day, rows(feed, 2, day), added={name: ["x", "y"] for name in names})
        partner.ingest(feed)
    told = partner.sampan.rows("select message from ops.alert where kind = 'drift' order by alert_id")
    assert ["'a1'" in message for (message,) in told] == [True, False]
    assert "'b1'" in told[1][0]
    assert all(f"sampan reload {feed}" in message and get_contract(feed).contact in message for (message,) in told)


def test_load_publishes_the_next_delivery_when_others_brought_more_columns_than_a_table_can_have(partner):
    """Kind of fault: what a partner sends uses up something that a feed has once and for all (1,600 columns of a table)."""
    feed, each = CUSTOMS, limits.MAX_UNKNOWN_COLUMNS - 5
    contract = get_contract(feed)
    for number in range(1600 // each + 2):
        given = [row | {"declaration_no": f"TDX{number:09}"} for row in rows(feed, 1)]
        names = {f"c{number}_{place}": ["91234567"] for place in range(each)}
        partner.puts(feed, DAY, f"{number}.csv.gz", encode(contract, given, added=names))
    partner.ingest(feed)
    assert partner.sampan.rows("select state, count(*) from ops.batch group by 1") == [("published", 1600 // each + 2)]
    partner.hands_over(feed, DAY, rows(feed, 2, seed=1), name="honest")
    assert partner.ingest(feed)["rows_published"] == 2
    columns = "select count(*) from pg_attribute where attrelid = 'raw.customs_declarations'::regclass and attnum > 0"
    assert partner.sampan.one(columns) == len(contract.stored) + 2
    noted = partner.sampan.rows("select count(*) from ops.drift where kind = 'unknown' group by batch_id")
    assert {count for (count,) in noted} == {each}


def test_load_holds_a_delivery_with_more_unknown_columns_than_are_noted(partner):
    names = {f"c{place}": ["x"] for place in range(limits.MAX_UNKNOWN_COLUMNS + 1)}
    partner.hands_over(CUSTOMS, DAY, rows(CUSTOMS, 1), added=names)
    assert partner.ingest(CUSTOMS)["problem"]["rule"] == "delivery.header_unrecognised"
    assert partner.sampan.one("select count(*) from ops.drift") == 0


def test_the_owner_is_told_in_words_when_a_contract_is_unknown():
    with pytest.raises(PermanentFailure, match=r"no feed 'nothing'; feeds: .*customs_declarations"):
        get_contract("nothing")
