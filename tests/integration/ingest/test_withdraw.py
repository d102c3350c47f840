"""A batch that should never have been published: taken out of what counts, and put back. All values are synthetic."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from time import sleep
from typing import Any

import pytest
from sampan import consent
from sampan.calendar import HONG_KONG
from sampan.contracts.registry import get_contract
from sampan.errors import PermanentFailure
from sampan.governance import retention
from sampan.ingest import freshness, quarantine, withdraw
from sampan.ingest.withdraw import Chosen

from tests.factory import encode, rows
from tests.integration.test_consent import YESTERDAY, bank, change, deliver, make_release, seen

FEED, CONSENTS = "customs_declarations", "cdi_consents"
DAY = date(2026, 7, 6)
WHY = "declarations of another month"


def states(sampan: Any) -> list[tuple[int, str]]:
    return sampan.rows("select batch_id, state from ops.batch order by 1")


def test_a_batch_is_withdrawn_by_its_number_date_or_file_and_comes_back(partner):
    sampan, given = partner.sampan, rows(FEED, 120)
    for place, (day, name) in enumerate([(DAY, "one"), (DAY, "two"), (DAY + timedelta(days=1), "three")]):
        partner.hands_over(FEED, day, given[40 * place : 40 * place + 40], name)
        partner.ingest(FEED)
    first, second, third = (number for number, _ in states(sampan))
    waiting = "select batch_id, is_withdrawn from ops.batches_waiting order by 1"

    def withdrawn(chosen: Chosen) -> set[int]:
        before = {number for number, state in states(sampan) if state == "withdrawn"}
        done = withdraw.run(FEED, chosen, WHY, "wong")
        after = {number for number, state in states(sampan) if state == "withdrawn"}
        assert done == {"batches": len(after - before), "rows": 40 * len(after - before)}
        return after - before

    assert withdrawn(Chosen(batch_id=second)) == {second}
    assert withdrawn(Chosen(business_date=DAY)) == {first}
    assert withdrawn(Chosen(file="three.csv.gz")) == {third}
    # What no build took in needs none to take it out.
    assert sampan.rows(waiting) == []
    undone = [withdraw.undo(FEED, Chosen(batch_id=number), "it was right", "chan") for number in (first, third)]
    assert undone == [{"batches": 1, "rows": 40}] * 2
    assert sampan.rows(waiting) == [(first, False), (third, False)]
    kept = "select batch_id, reason, withdrawn_by, undone_by, undone_because from ops.withdrawal order by 1"
    assert sampan.rows(kept) == [
        (first, WHY, "wong", "chan", "it was right"),
        (second, WHY, "wong", None, None),
        (third, WHY, "wong", "chan", "it was right"),
    ]
    alerts = sampan.rows("select feed, message from ops.alert where kind = 'withdrawn' order by alert_id")
    assert [feed for feed, _ in alerts] == [FEED] * 3
    assert f"wong withdrew batches {second}: {WHY}" in alerts[0][1]


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        (Chosen(batch_id=99), "chosen by batch 99; no batch is"),
        (Chosen(file="part.csv.gz", business_date=DAY), "chosen by date 2026-07-06, file part.csv.gz; no batch is"),
        (Chosen(business_date=DAY + timedelta(days=1)), "batch 2 is held"),
    ],
    ids=["unknown", "of_another_file", "held"],
)
def test_what_was_never_published_cannot_be_withdrawn(chosen, found, partner):
    partner.hands_over(FEED, DAY, rows(FEED, 40), "sound")
    partner.puts(FEED, DAY + timedelta(days=1), "broken.csv.gz", b"no gzip")
    partner.ingest(FEED)
    with pytest.raises(PermanentFailure) as refused:
        withdraw.run(FEED, chosen, WHY, "wong")
    assert refused.value.problem.rule == "withdraw.nothing"
    assert found in str(refused.value)
    with pytest.raises(PermanentFailure, match="give a reason"):
        withdraw.run(FEED, Chosen(batch_id=1), " ", "wong")
    assert [state for _, state in states(partner.sampan)] == ["published", "held"]


def test_replays_go_with_their_delivery_and_rows_of_others_are_open_again(partner, tmp_path):
    sampan, given = partner.sampan, rows(FEED, 100)
    given[0]["value_hkd"] = given[1]["value_hkd"] = "-1"
    partner.hands_over(FEED, DAY, given)
    delivered = partner.ingest(FEED)["batch_id"]
    ids = [number for (number,) in sampan.rows("select quarantine_id from quarantine.record order by 1")]
    file = tmp_path / "corrected.csv"
    file.write_text(f"_quarantine_id,value_hkd\n{ids[0]},7\n")
    assert quarantine.replay(FEED, corrected=file)["published"] == 1
    replayed = sampan.batch(FEED)["batch_id"]
    of_rows = "select quarantine_id, state, resolved_by_batch_id from quarantine.record order by 1"
    before = sampan.rows(of_rows)
    assert before == [(ids[0], "resolved", replayed), (ids[1], "open", None)]
    # The replay alone: its row is open again.
    assert withdraw.run(FEED, Chosen(batch_id=replayed), WHY, "wong")["batches"] == 1
    assert sampan.rows(of_rows) == [(ids[0], "open", None), (ids[1], "open", None)]
    with pytest.raises(PermanentFailure, match=f"withdrawn as batch {replayed}"):
        quarantine.replay(FEED, corrected=file)
    assert withdraw.undo(FEED, Chosen(batch_id=replayed), WHY, "wong")["batches"] == 1
    assert sampan.rows(of_rows) == before
    # The delivery: the replay goes with it, and what is open can be corrected by no one.
    assert withdraw.run(FEED, Chosen(batch_id=delivered), WHY, "wong")["batches"] == 2
    assert sampan.rows(of_rows) == [(ids[0], "resolved", replayed), (ids[1], "withdrawn", None)]
    with pytest.raises(PermanentFailure, match="no open row that can be replayed"):
        quarantine.replay(FEED)
    with pytest.raises(PermanentFailure, match="are not open any more"):
        withdraw.undo(FEED, Chosen(batch_id=replayed), WHY, "wong")
    assert withdraw.undo(FEED, Chosen(batch_id=delivered), WHY, "wong")["batches"] == 2
    assert sampan.rows(of_rows) == before
    assert {state for _, state in states(sampan)} == {"published"}


def test_its_date_is_no_longer_delivered_and_an_earlier_hold_is_open_again(partner):
    """Kind of fault: a day counts as delivered, and a held batch as replaced, by what counts no more."""
    sampan = partner.sampan
    held = rows(FEED, 40)
    for row in held:
        row["value_hkd"] = "-1"
    for name, given in (("held", held), ("right", rows(FEED, 40))):
        partner.hands_over(FEED, DAY, given, name)
        partner.ingest(FEED)
        # Object stores keep whole seconds: a second object of a date must be received measurably later.
        sleep(1.1)
    at = datetime(2026, 7, 8, 12, tzinfo=HONG_KONG)

    def state() -> str:
        return next(row["state"] for row in freshness.days(FEED, at=at) if row["business_date"] == DAY)

    open_problems = "select batch_id from ops.open_problem"
    assert (state(), sampan.rows(open_problems)) == ("arrived", [])
    published = sampan.batch(FEED)["batch_id"]
    withdraw.run(FEED, Chosen(batch_id=published), WHY, "wong")
    assert (state(), sampan.rows(open_problems)) == ("held", [(published - 1,)])
    withdraw.undo(FEED, Chosen(batch_id=published), WHY, "wong")
    assert (state(), sampan.rows(open_problems)) == ("arrived", [])


def test_the_same_content_stays_withdrawn_when_it_is_delivered_again_and_someone_is_told(partner):
    body = encode(get_contract(FEED), rows(FEED, 40))
    partner.puts(FEED, DAY, "wrong.csv.gz", body)
    number = partner.ingest(FEED)["batch_id"]
    withdraw.run(FEED, Chosen(batch_id=number), WHY, "wong")
    partner.puts(FEED, DAY, "wrong_again.csv.gz", body)
    partner.ingest(FEED)
    assert states(partner.sampan) == [(number, "withdrawn")]
    ((message,),) = partner.sampan.rows("select message from ops.alert where kind = 'returned'")
    assert f"run `sampan withdraw {FEED} --batch {number} --undo`" in message


def test_a_withdrawn_batch_is_deleted_at_the_end_of_its_retention(partner):
    partner.hands_over(FEED, DAY, rows(FEED, 40))
    number = partner.ingest(FEED)["batch_id"]
    withdraw.run(FEED, Chosen(batch_id=number), WHY, "wong")
    over = DAY + timedelta(days=get_contract(FEED).retention_days + 1)
    assert retention.run(over)["batches"] == 1
    assert partner.sampan.one(f"select count(*) from raw.{FEED}") == 0
    assert states(partner.sampan) == [(number, "withdrawn")]
    with pytest.raises(PermanentFailure, match=f"batch {number} is deleted"):
        withdraw.undo(FEED, Chosen(batch_id=number), WHY, "wong")


# --- consents ---------------------------------------------------------------------------------------------------------


def read() -> set[int]:
    """Numbers of the consents under which the bank reads declarations, of a release that has a row for each."""
    make_release()
    with bank() as connection:
        return {int(number[2:]) for _, number, scope in seen(connection) if scope == "trade_declaration"}


@pytest.mark.parametrize(
    "bad_news",
    [
        change(1, "revoked", YESTERDAY),
        change(1, "expired", YESTERDAY),
        change(1, "renewed", YESTERDAY, scope="ecommerce"),
        change(1, "renewed", YESTERDAY, validTo=str(YESTERDAY)),
    ],
    ids=["revoked", "expired", "narrowed", "shortened"],
)
def test_a_withdrawn_delivery_revives_no_consent(bad_news, sampan):
    """Fault: a person withdraws the delivery with the bad news, and the bank reads again."""
    deliver(sampan, [change(1), change(2)])
    deliver(sampan, [bad_news])
    wrong = sampan.batch("cdi_consents")["batch_id"]
    assert read() == {2}
    withdraw.run("cdi_consents", Chosen(batch_id=wrong), WHY, "wong")
    assert read() == {2}
    assert [row[0] for row in consent.suspended()] == ["CS0000000001"]
    # A person who knows that it holds lifts it; a revocation is still final.
    consent.lift(["CS0000000001"], None, "the bank confirmed it", "wong")
    assert read() == ({2} if bad_news["status"] == "revoked" else {1, 2})


def test_a_withdrawn_grant_lets_no_bank_read_and_comes_back(sampan):
    deliver(sampan, [change(2)])
    deliver(sampan, [change(1)])
    wrong = sampan.batch("cdi_consents")["batch_id"]
    assert read() == {1, 2}
    withdraw.run("cdi_consents", Chosen(batch_id=wrong), WHY, "wong")
    assert read() == {2}
    withdraw.undo("cdi_consents", Chosen(batch_id=wrong), WHY, "wong")
    assert read() == {1, 2}
    # The right delivery, under the same number, needs no one to lift anything.
    withdraw.run("cdi_consents", Chosen(batch_id=wrong), WHY, "wong")
    deliver(sampan, [change(1, channel="online")])
    assert read() == {1, 2}
