"""A warehouse that lives through business days one by one ends as one that takes all of them in at once."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from sampan.calendar import HONG_KONG
from sampan.contracts.registry import all_contracts
from sampan.ingest import fetch, freshness, gate, land, load, publish
from sampan.marts import build, release
from sampan.settings import settings

from infra.local.s3 import EmbeddedS3
from infra.simulator import deliver, faults
from infra.simulator.orders import Order, saved
from infra.simulator.serve import Behaviour, Server
from tests.conftest import drop_database
from tests.integration.world import installation
from tests.marts import differences, shown

# In this world a consent is revoked on one of the days, and others before.
BEGUN = Order(seed=26, smes=120, volume=0.3, start=date(2026, 8, 3), days=4, history_from=date(2026, 5, 1))
# To the end of a month of business days, over each cycle of faults: a truncated delivery, a late one, a held one with its
# correction, a missing one.
TICKS = 18

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400), pytest.mark.xdist_group("ticks")]


def noon(day: date) -> datetime:
    return datetime.combine(day, time(12), HONG_KONG)


def take_in(after: datetime, until: datetime) -> None:
    """Everything that came, and the APIs that were to be asked between two times."""
    contracts = sorted(all_contracts().values(), key=lambda contract: bool(contract.source.asks_about))
    for contract in contracts:
        if contract.source.kind == "api":
            for due in faults.due_times(contract.calendar, after, until)[-1:]:
                freshness.set_clock(due)
                fetch.run(contract.feed, due.date())
    freshness.set_clock(until)
    for contract in contracts:
        for step in (*([fetch] if contract.source.kind == "s3" else []), land, load, gate, publish):
            step.run(contract.feed)


def released() -> int:
    build.run()
    release.gate()
    return release.run()["release_no"]


@contextmanager
def installed(server: str, s3: EmbeddedS3, folder: Path, roles: dict[str, str], apis: Server) -> Iterator[None]:
    """A new installation on the same object store, that asks the simulated APIs."""
    name = f"sampan_ticks_{secrets.token_hex(4)}"
    base = apis.url.removesuffix("/public")
    with installation(server, s3, folder, roles, name) as environment, pytest.MonkeyPatch.context() as patch:
        for key, value in environment.items():
            patch.setenv(key, value)
        for contract in all_contracts().values():
            for request in contract.source.requests:
                patch.setenv(request.base_variable, base + urlsplit(request.base).path)
        settings.cache_clear()
        yield
    settings.cache_clear()
    drop_database(server, name)


def ledger() -> dict[str, Any]:
    """Batches of partners by state of each content, to compare with what was planted."""
    query = "select feed, business_date, content_sha256, state, rows_published, rows_quarantined from ops.batch"
    with psycopg.connect(settings().dsn("loader")) as connection:
        return {f"{feed} {day} {sha}": (state, *rows) for feed, day, sha, state, *rows in connection.execute(query)}


def test_a_warehouse_that_lives_by_days_ends_as_one_that_takes_all_in_at_once(
    server: str, secrets_of_session: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, begun = tmp_path / "truth", replace(BEGUN, until=noon(BEGUN.next_date))
    behaviour = Behaviour(begun.seed, delivered=truth)
    with EmbeddedS3(tmp_path / "s3") as s3, Server(behaviour) as apis:
        with installed(server, s3, tmp_path / "by_days", secrets_of_session, apis):
            bucket = deliver.Bucket(settings().s3, settings().drop_bucket)
            deliver.deliver(bucket, begun.world(), truth=truth, sent_until=begun.until)
            begun.save(truth)
            assert begun.until is not None
            take_in(noon(date(2026, 6, 1)), begun.until)
            numbers = [released()]
            for step in range(TICKS):
                before = saved(truth)
                assert before is not None
                assert before.until is not None
                until = noon(replace(before, days=before.days + 1).next_date)
                deliver.next_day(bucket, truth, until)
                take_in(before.until, until)
                if step == TICKS // 2:
                    # Readers go back a release; the next one goes on from all that was published.
                    release.rollback(numbers[-2])
                    assert shown(settings().dsn("bi"))
                numbers.append(released())
            planted = [json.loads(line) for line in (truth / "planted.jsonl").read_text().splitlines()]
            lived, kept = shown(settings().dsn("bi")), ledger()
            with psycopg.connect(settings().dsn("loader")) as connection:
                revoked = connection.execute(
                    "select count(*) from raw.cdi_consents where status = 'revoked'"
                ).fetchone()
        events = Counter(event for entry in planted for event in entry["events"])
        assert {"late", "held", "truncated", "correction", "missing", "added", "repeated"} <= set(events)
        assert revoked is not None
        assert revoked[0] > 0
        for entry in planted:
            if "sha256" in entry and entry["expected"] == "published":
                state, published, quarantined = kept[f"{entry['feed']} {entry['business_date']} {entry['sha256']}"]
                assert (state, published, quarantined) == (
                    "published", entry["rows_published"], entry["rows_quarantined"]
                ), entry["key"]  # fmt: skip
        assert numbers == sorted(set(numbers))

        known = saved(truth)
        assert known is not None
        assert known.until is not None
        with installed(server, s3, tmp_path / "at_once", secrets_of_session, apis):
            # What the APIs answered is in the object store: asked again, they would answer of a later day.
            monkeypatch.setattr(fetch, "_download", lambda *_: None)
            take_in(noon(date(2026, 6, 1)), known.until)
            released()
            at_once, once = shown(settings().dsn("bi")), ledger()
    partners = {f"{entry['feed']} " for entry in planted if "sha256" in entry}
    ours = {key: value for key, value in once.items() if any(key.startswith(feed) for feed in partners)}
    assert {key: kept[key] for key in ours} == ours
    assert lived.keys() == at_once.keys()
    assert differences(lived, at_once) == {}
