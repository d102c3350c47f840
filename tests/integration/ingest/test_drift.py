"""Partners rename, add, drop and reorder columns: what each contract's policy makes of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sampan.contracts.registry import all_contracts, get_contract
from sampan.errors import PermanentFailure

from tests.factory import DAY, adds_up, feeds, representative_feeds, rows, stored

ALIASES = [(feed, alias) for feed, contract in all_contracts().items() for alias in contract.aliases]
BY_POLICY = {
    policy: feeds(lambda c, p=policy: c.drift == p and c.source.kind == "s3" and c.source.format != "fixed", least=2)
    for policy in ("fail", "add_nullable", "ignore")
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


@pytest.mark.parametrize("feed", representative_feeds(BY_POLICY["ignore"]))
def test_load_leaves_an_added_column_out_and_notes_it_when_the_policy_ignores(feed, partner):
    contract, given = get_contract(feed), rows(feed, 60)
    key = contract.key[0]
    delivered = [row | ({key: "?"} if n == 0 else {}) for n, row in enumerate(given)]
    partner.hands_over(feed, DAY, delivered, added={"Mobile": [f"9123{n:04}" for n in range(60)]})
    batch = partner.ingest(feed)
    assert batch["rows_published"] == 59, batch["problem"]
    assert partner.raw(feed) == stored(contract, given[1:])
    assert ("ignored", "mobile") in partner.sampan.rows("select kind, column_name from ops.drift")
    assert "91230000" not in str(partner.sampan.rows("select * from quarantine.record"))


@pytest.mark.parametrize("feed", representative_feeds(BY_POLICY["add_nullable"]))
def test_load_adds_a_column_to_raw_when_the_policy_says_so_and_batches_before_and_after_are_published(feed, partner):
    contract, given = get_contract(feed), [rows(feed, 4, DAY + timedelta(days=n)) for n in range(4)]
    # One batch is loaded before the column is known and published after; one is delivered without it later.
    from sampan.ingest import gate, land, load, publish

    partner.hands_over(feed, DAY, given[0])
    for step in (land, load):
        step.run(feed)
    partner.hands_over(feed, DAY + timedelta(days=1), given[1], added={"Colour": ["red", "", None, 'bl"ue, or so']})
    for step in (land, load, gate, publish):
        step.run(feed)
    partner.hands_over(feed, DAY + timedelta(days=2), given[2])
    partner.ingest(feed)
    partner.hands_over(feed, DAY + timedelta(days=3), given[3], added={"Size": ["L"] * 4, "colour": ["green"] * 4})
    batch = partner.ingest(feed)
    assert batch["state"] == "published", batch["problem"]
    assert partner.raw(feed) == stored(contract, [row for day in given for row in day])
    found = partner.sampan.rows(
        f'select business_date, array_agg(x_colour order by _line), min(x_size) from raw."{feed}"'
        " join ops.batch b on b.batch_id = _batch_id group by 1 order by 1"
    )
    assert [(sorted(filter(None, colours)), size) for _, colours, size in found] == [
        ([], None),
        (['bl"ue, or so', "red"], None),
        ([], None),
        (["green"] * 4, "L"),
    ]
    adds_up(partner.sampan)


@pytest.mark.parametrize("feed", representative_feeds(BY_POLICY["add_nullable"]))
def test_load_keeps_added_columns_apart_when_their_names_come_to_the_same(feed, partner):
    given = rows(feed, 2)
    added = {"備註": ["a"] * 2, "其他": ["b"] * 2, "Foo Bar": ["c"] * 2, "foo-bar": ["d"] * 2, "1": ["e"] * 2}
    partner.hands_over(feed, DAY, given, added=added)
    batch = partner.ingest(feed)
    assert batch["state"] == "published", batch["problem"]
    ((row,),) = partner.sampan.rows(f'select to_jsonb(t) from raw."{feed}" t limit 1')
    assert sorted(value for name, value in row.items() if name.startswith("x_")) == ["a", "b", "c", "d", "e"]
    partner.hands_over(feed, DAY + timedelta(days=1), rows(feed, 2, seed=5), added={"其他": ["b"] * 2})
    partner.ingest(feed)
    columns = partner.sampan.rows("select * from ops.drift where kind = 'added' and detail like '%%其他%%'")
    assert len({name for _, _, _, name, *_ in columns}) == 1


def test_the_owner_is_told_in_words_when_a_contract_is_unknown():
    with pytest.raises(PermanentFailure, match=r"no feed 'nothing'; feeds: .*customs_declarations"):
        get_contract("nothing")
