"""A warehouse brought back to a moment: ledger, raw, marts and landing are those of then, and no deletion is undone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from sampan.contracts.registry import get_contract
from sampan.database import close_idle
from sampan.governance import retention
from sampan.ingest import fetch, withdraw
from sampan.settings import settings

from tests.conftest import memory, template_on
from tests.factory import Partner, adds_up, rows
from tests.integration.infra.test_backup import Archived
from tests.integration.marts.test_release import release_one, shown

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("restore")]

FEED = "customs_declarations"
OLD, YOUNG, KEPT = date(2026, 7, 6), date(2026, 7, 7), date(2026, 7, 20)
AFTER = OLD + timedelta(days=get_contract(FEED).retention_days + 1)
# In a row that is published and in those that are rejected. One of them is left at the end: so they share its pages.
ROWS, REJECTED = 800, 5
PLANTED = {"raw": "planted-in-raw-zqx", "quarantine": "planted-in-quarantine-zqx"}


@pytest.fixture(scope="module")
def platform() -> Iterator[Archived]:
    with tempfile.TemporaryDirectory(prefix="sampan-archived-", dir=memory(), ignore_cleanup_errors=True) as folder:
        archived = Archived(Path(folder))
        archived.postgres.start()
        yield archived
        archived.postgres.stop()


@pytest.fixture(scope="module")
def server(platform: Archived) -> str:
    """The server of this module's tests, in place of the one that the others share."""
    return platform.postgres.dsn()


@pytest.fixture(scope="module")
def template(server: str, secrets_of_session: dict[str, str]) -> Iterator[str]:
    with template_on(server, secrets_of_session) as name:
        yield name


def delivered(partner: Partner, day: date) -> None:
    """A delivery with a planted value in a sound row and in a rejected one, through every step of the ingest."""
    given = rows(FEED, ROWS, day)
    rejected = given[1 : 2 if day == KEPT else 1 + REJECTED]
    for row in rejected:
        row["hkhs_code"] = "none"
    if day != KEPT:
        for row, value in ((given[0], PLANTED["raw"]), *((row, PLANTED["quarantine"]) for row in rejected)):
            row["goods_description"] = value
    partner.hands_over(FEED, day, given)
    batch = partner.ingest(FEED, day)
    assert (batch["state"], batch["rows_quarantined"]) == ("published", len(rejected))


def state(partner: Partner) -> dict[str, object]:
    """What the warehouse says."""
    sampan = partner.sampan
    return {
        "ledger": sampan.rows("select to_jsonb(b) from ops.batch as b order by batch_id"),
        "deliveries": sampan.rows("select to_jsonb(d) from ops.delivery as d order by 1"),
        "raw": partner.raw(FEED),
        "quarantine": sampan.rows("select to_jsonb(q) from quarantine.record as q order by 1"),
        "releases": sampan.rows("select to_jsonb(r) from ops.release as r order by 1"),
        "marts": shown(),
    }


def landed_whole(partner: Partner) -> int:
    """How many batches there are; each has its content in landing, as the ledger names it."""
    s3, bucket = partner.sampan.s3, settings().landing_bucket
    batches = partner.sampan.rows("select landing_uri, content_sha256 from ops.batch where deleted_at is null")
    for uri, digest in batches:
        body = s3.get_object(Bucket=bucket, Key=uri.removeprefix(f"s3://{bucket}/"))["Body"].read()
        assert sha256(body).hexdigest() == digest
    return len(batches)


def restored(platform: Archived, partner: Partner, at: datetime) -> None:
    """Bring the server back; sessions of before are gone."""
    platform.archive_all()
    for connection in partner.sampan.connections.values():
        connection.close()
    close_idle()
    platform.postgres.stop()
    platform.backups.restore(platform.postgres, at)
    platform.postgres.start()


def test_ledger_raw_marts_and_landing_are_those_of_the_moment_and_deletion_reaches_the_backups(platform, partner):
    sampan = partner.sampan
    delivered(partner, OLD)
    first = release_one()
    platform.take()
    release_of_moment = release_one()
    before, between = state(partner), platform.moment()
    assert before["marts"] == {release_of_moment}

    delivered(partner, YOUNG)
    withdraw.run(FEED, withdraw.Chosen(batch_id=1), "of another month", "test")
    release_one()
    assert state(partner) != before
    restored(platform, partner, between)
    assert state(partner) == before
    assert landed_whole(partner) == 1
    assert first in {row[0] for row in sampan.rows("select release_no from ops.release")}

    # What was delivered since lies in the drop prefix, and is taken up as if it had just come.
    fetch.run(FEED)
    partner.ingest(FEED)
    assert landed_whole(partner) == 2
    assert len(partner.raw(FEED)) == 2 * (ROWS - REJECTED)
    adds_up(sampan)
    assert release_one() > release_of_moment

    # A deletion that a restore undoes is done again by the next run of retention.
    undeleted = platform.moment()
    assert retention.run(AFTER)["batches"] == 1
    restored(platform, partner, undeleted)
    assert (
        sampan.one("select count(*) from quarantine.record where record like %s", f"%{PLANTED['quarantine']}%")
        == 2 * REJECTED
    )
    assert retention.run(AFTER)["batches"] == 1
    delivered(partner, KEPT)
    assert retention.run(AFTER + timedelta(days=1))["batches"] == 1
    assert landed_whole(partner) == 1
    assert all(platform.holds(value) for value in PLANTED.values())

    # The first backup after the deletion has none of it: when the ones of before have expired, it is nowhere.
    for connection in partner.sampan.connections.values():
        connection.close()
    platform.take()
    platform.archive_all()
    platform.backups.expire(35, datetime.now(UTC) + timedelta(days=35, seconds=2))
    assert len(platform.backups.kept()) == 1
    for place, value in PLANTED.items():
        files = [p for p in platform.backups.folder.rglob("*") if p.is_file() and value.encode() in p.read_bytes()]
        assert files == [], place
