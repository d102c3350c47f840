"""What the ledger says that a release took in: new dates, corrections of dates taken in before, withdrawals."""

from __future__ import annotations

from datetime import date

from sampan.database import connect
from sampan.report import answers

from tests.integration.published import publish

FEED = "funding_payments"


def released(*batches: int, withdrawn: tuple[int, ...] = ()) -> int:
    """A release that took in some batches and took others out, as the ledger has it."""
    with connect("builder") as connection:
        row = connection.execute(
            "insert into ops.build (state, as_of_date, built_at, ended_at)"
            " values ('released', '2026-07-06', clock_timestamp(), clock_timestamp()) returning build_no"
        ).fetchone()
        assert row is not None
        for batch in (*batches, *withdrawn):
            connection.execute(
                "insert into ops.build_batch (build_no, batch_id, is_withdrawn) values (%s, %s, %s)",
                [row[0], batch, batch in withdrawn],
            )
        connection.execute(
            "insert into ops.release (release_no, as_of_date, rows) values (%s, '2026-07-06', '{}')", [row[0]]
        )
    return int(row[0])


def test_a_correction_is_of_a_date_that_an_earlier_release_had(sampan):
    def delivered(day: int, amount: int) -> int:
        publish(FEED, date(2026, 7, day), [{"amount_hkd": amount}])
        return int(sampan.one("select max(batch_id) from ops.batch"))

    first, second = delivered(1, 10), delivered(2, 20)
    before = released(first, second)
    # Both deliveries of the 3rd are of a date that no release had.
    now = released(delivered(1, 11), delivered(3, 30), delivered(3, 31), withdrawn=(second,))
    assert answers._taken(before) == (None, {FEED: answers.Taken(FEED, new=2, corrections=0, withdrawn=0)})
    assert answers._taken(now) == (before, {FEED: answers.Taken(FEED, new=2, corrections=1, withdrawn=1)})
