"""From the drop prefix to raw, over every contract there is."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sampan.contracts.registry import get_contract

from tests import factory
from tests.factory import DAY, FEEDS

NEXT = DAY + timedelta(days=1)


@pytest.mark.parametrize("feed", FEEDS)
def test_ingest_publishes_every_value_when_all_rows_are_sound(feed, partner):
    given = factory.rows(feed, 25)
    partner.hands_over(feed, DAY, given)
    batch = partner.ingest(feed)
    assert (batch["state"], batch["rows_in"], batch["rows_published"]) == ("published", 25, 25), batch["problem"]
    assert partner.raw(feed) == factory.stored(get_contract(feed), given)
    assert partner.quarantined(feed) == []
