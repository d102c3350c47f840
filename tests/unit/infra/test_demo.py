"""The demo asks the simulated APIs: what a retry may help is tried again, and what it does not help is said in words."""

from __future__ import annotations

from datetime import date

import pytest
from sampan.errors import TransientFailure
from sampan.ingest import fetch

from infra.local.config import StackError
from infra.local.demo import ASK_TIMES, ask

DAY = date(2024, 8, 30)


def test_an_api_that_went_away_is_asked_again(monkeypatch):
    asked: list[tuple[str, date]] = []

    def run(feed: str, day: date) -> None:
        asked.append((feed, day))
        if len(asked) < ASK_TIMES:
            raise TransientFailure("Server disconnected without sending a response.")

    monkeypatch.setattr(fetch, "run", run)
    ask("comtrade_mirror_imports", DAY, pause=0)
    assert asked == [("comtrade_mirror_imports", DAY)] * ASK_TIMES


def test_an_api_that_stays_away_is_named_with_what_to_do(monkeypatch):
    def run(feed: str, day: date) -> None:
        raise TransientFailure("Server disconnected without sending a response.")

    monkeypatch.setattr(fetch, "run", run)
    with pytest.raises(StackError, match=r"comtrade_mirror_imports .* 2024-08-30: .*; run the same command again"):
        ask("comtrade_mirror_imports", DAY, pause=0)
