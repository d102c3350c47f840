"""Where deliveries land: by content, by business date, and what is refused."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from time import sleep

import pytest
from botocore.exceptions import ClientError
from sampan.calendar import HONG_KONG, today
from sampan.contracts.registry import get_contract
from sampan.governance import retention
from sampan.ingest import fetch, freshness, land, publish, withdraw
from sampan.ingest.withdraw import Chosen
from sampan.settings import Settings

from tests.factory import DAY, encode, rows, stored
from tests.integration.ingest.deliveries import (
    CUSTOMS,
    ingested,
)


class Renaming:
    """An object store whose keys a partner chose: `safe` is known to it as `hostile`, as S3 itself allows."""

    def __init__(self, client, safe: str, hostile: str) -> None:
        self.client, self.safe, self.hostile = client, safe, hostile

    def __getattr__(self, name):
        return getattr(self.client, name)

    def get_object(self, **arguments):
        key = arguments["Key"].replace(self.hostile, self.safe)
        return self.client.get_object(**arguments | {"Key": key})

    def get_paginator(self, name):
        inner, outer = self.client.get_paginator(name), self

        class Pages:
            def paginate(self, **arguments):
                for page in inner.paginate(**arguments):
                    for item in page.get("Contents", ()):
                        item["Key"] = item["Key"].replace(outer.safe, outer.hostile)
                    yield page

        return Pages()


@pytest.mark.parametrize(
    "name", ["../../../../etc/passwd", "..", "a/../../b.csv.gz", "line\nbreak", "\x1b[2J", "雲 [/red] %2e%2e.gz"]
)
def test_land_addresses_by_content_when_a_name_is_hostile(name, partner, monkeypatch):
    client = partner.sampan.s3
    monkeypatch.setattr(Settings, "s3", lambda self: Renaming(client, "safe.csv.gz", name))
    given = rows(CUSTOMS, 5)
    batch = ingested(partner, CUSTOMS, encode(get_contract(CUSTOMS), given), name="safe.csv.gz")
    landing = partner.sampan.environment["SAMPAN_LANDING_BUCKET"]
    shown = name.replace("\n", "\\n").replace("\x1b", "\\x1b")
    assert batch["source_uri"].endswith(f"/{DAY}/{shown}")
    assert batch["landing_uri"] == f"s3://{landing}/{CUSTOMS}/{DAY}/{batch['content_sha256']}.csv.gz"
    assert batch["rows_published"] == 5


@pytest.fixture
def planted_nul(request, sampan, object_store):
    """An object of a feed with NUL in its key, which S3 refuses to put and to delete: put through the filer."""
    bucket = sampan.environment["SAMPAN_DROP_BUCKET"]
    feed, name = getattr(request, "param", (CUSTOMS, "a%00b.csv.gz"))
    key = f"{get_contract(feed).drop_prefix}{DAY}/{name}"
    address = f"/buckets/{bucket}/{key}"
    with object_store.filer() as client:
        client.put(address, content=b"planted").raise_for_status()
        yield f"s3://{bucket}/{key}"
        client.delete(address).raise_for_status()


def test_a_key_that_the_database_cannot_hold_is_refused_by_name_and_stops_nothing_else(planted_nul, sampan):
    """One object that cannot be processed stops its feed, and all that come after it, for good."""
    other = "hkecic_claims"
    for feed in (CUSTOMS, other):
        sampan.deliver(
            feed, DAY, f"sound.{get_contract(feed).source.extension}", encode(get_contract(feed), rows(feed, 5))
        )
    for times in (1, 2):
        done = sampan.cli("ingest", CUSTOMS, other)
        assert "Traceback" not in done.stderr
        assert [sampan.batch(feed)["state"] for feed in (CUSTOMS, other)] == ["published"] * 2, times
    ((uri, problem),) = sampan.rows("select source_uri, problem from ops.delivery where problem is not null")
    assert (uri, problem["rule"], problem["file"]) == (planted_nul, "delivery.key", planted_nul)
    assert "delivery.key" in sampan.cli("status").stdout
    # Retention cannot delete it, and neither says that it did nor stops at it.
    assert retention.run(today() + timedelta(days=get_contract(CUSTOMS).retention_days + 1), True)["batches"] == 2
    assert sampan.one("select deleted_at from ops.delivery where source_uri = %s", planted_nul) is None


@pytest.mark.parametrize("planted_nul", [("cdi_consents", "of%20A123456%283%29%00.jsonl")], indirect=True)
def test_a_refused_key_is_told_and_its_personal_number_is_not(planted_nul, sampan):
    """News is lost in silence when the key cannot be stored, and percent-encoding hides an HKID number (H2, M3)."""
    done = sampan.cli("ingest", "cdi_consents")
    ((uri, problem),) = sampan.rows("select source_uri, problem from ops.delivery where problem is not null")
    assert uri == planted_nul
    ((message,),) = sampan.rows("select message from ops.alert where kind = 'rejected' and feed = 'cdi_consents'")
    assert "delivery.key" in message
    for text in (problem["file"], message, done.stderr, done.stdout):
        assert "123456" not in text
    assert "[HKID]%00.jsonl" in problem["file"]


def test_land_makes_one_batch_when_the_same_content_comes_under_two_names(partner):
    body = encode(get_contract(CUSTOMS), rows(CUSTOMS, 5))
    partner.puts(CUSTOMS, DAY, "first.csv.gz", body)
    partner.puts(CUSTOMS, DAY, "second.csv.gz", body)
    partner.ingest(CUSTOMS)
    assert partner.sampan.one("select count(*) from ops.batch") == 1
    assert partner.sampan.one("select count(distinct source_uri) from ops.delivery where batch_id is not null") == 2
    assert len(partner.raw(CUSTOMS)) == 5


def test_land_makes_two_batches_when_two_contents_come_for_one_date(partner):
    for seed in (1, 2):
        partner.puts(CUSTOMS, DAY, f"{seed}.csv.gz", encode(get_contract(CUSTOMS), rows(CUSTOMS, 5, seed=seed)))
    partner.ingest(CUSTOMS)
    assert partner.sampan.rows("select state, rows_published from ops.batch") == [("published", 5)] * 2


@pytest.mark.parametrize("name", ["1_again", "1"], ids=["another_name", "the_same_name"])
def test_a_rollback_to_earlier_content_counts_as_the_newest_and_the_owner_is_told(name, partner):
    """Kind of fault: the partner takes its second delivery of a date back, and the platform keeps to it."""
    sampan = partner.sampan
    bodies = [encode(get_contract(CUSTOMS), rows(CUSTOMS, 5, seed=seed)) for seed in (1, 2)]
    newest = "select batch_id from ops.batch order by counts_from desc, batch_id desc limit 1"

    def puts(name: str, body: bytes) -> int:
        # Object stores keep whole seconds: a second object of a date must be received measurably later.
        sleep(1.1)
        partner.puts(CUSTOMS, DAY, f"{name}.csv.gz", body)
        partner.ingest(CUSTOMS)
        return sampan.one(newest)

    first, second = puts("1", bodies[0]), puts("2", bodies[1])
    assert puts("2", bodies[1]) == puts("2_again", bodies[1]) == second
    assert sampan.one("select count(*) from ops.alert") == 0
    since = sampan.one("select clock_timestamp()")
    assert not publish.is_published_since(CUSTOMS, since)
    assert puts(name, bodies[0]) == first
    assert publish.is_published_since(CUSTOMS, since)
    ((kind, feed, message),) = sampan.rows("select kind, feed, message from ops.alert")
    assert (kind, feed) == ("returned", CUSTOMS)
    assert f"{name}.csv.gz has the same content as batch {first} of {DAY}, which batch {second} had" in message
    assert get_contract(CUSTOMS).contact in message
    received = "select received_at < counts_from from ops.batch order by batch_id"
    assert [returned for (returned,) in sampan.rows(received)] == [True, False]
    # There and back again, and what was tried before is not new.
    assert puts("2" if name == "1" else "3", bodies[1]) == second
    partner.ingest(CUSTOMS)
    assert sampan.one("select count(*) from ops.alert") == 2


@pytest.mark.parametrize("withdrawn", ["the other", "itself"])
def test_undoing_a_withdrawal_brings_back_the_order_in_which_the_partner_delivered(withdrawn, partner):
    """Kind of fault: a rollback that came while one of the two was withdrawn is forgotten once that is undone."""
    sampan = partner.sampan
    bodies = [encode(get_contract(CUSTOMS), rows(CUSTOMS, 5, seed=seed)) for seed in (1, 2)]
    numbers = []
    for name, body in (("1", bodies[0]), ("2", bodies[1])):
        sleep(1.1)
        partner.puts(CUSTOMS, DAY, f"{name}.csv.gz", body)
        numbers.append(partner.ingest(CUSTOMS)["batch_id"])
    chosen = Chosen(batch_id=numbers[1] if withdrawn == "the other" else numbers[0])
    withdraw.run(CUSTOMS, chosen, "by phone", "wong")
    sleep(1.1)
    partner.puts(CUSTOMS, DAY, "1_again.csv.gz", bodies[0])
    partner.ingest(CUSTOMS)
    withdraw.undo(CUSTOMS, chosen, "it was right", "wong")
    newest = "select batch_id from ops.batch order by counts_from desc, batch_id desc limit 1"
    assert sampan.one(newest) == numbers[0]


def test_content_that_was_overwritten_before_it_was_landed_and_comes_back_is_landed(partner):
    """Kind of fault: what a name holds now is entered as what it held when fetch looked, and that is never read."""
    sampan = partner.sampan
    first, second = (encode(get_contract(CUSTOMS), rows(CUSTOMS, 5, seed=seed)) for seed in (1, 2))
    partner.puts(CUSTOMS, DAY, "1.csv.gz", first)
    sampan.deliver(CUSTOMS, DAY, "1.csv.gz", second)
    assert partner.ingest(CUSTOMS)["rows_published"] == 5
    assert partner.raw(CUSTOMS) == stored(get_contract(CUSTOMS), rows(CUSTOMS, 5, seed=2))
    sleep(1.1)
    partner.puts(CUSTOMS, DAY, "1.csv.gz", first)
    newest = partner.ingest(CUSTOMS)["batch_id"]
    assert sampan.one("select batch_id from ops.batch order by counts_from desc, batch_id desc limit 1") == newest
    assert len(partner.raw(CUSTOMS)) == 10


def test_a_rollback_counts_at_once_when_fetch_sees_it_together_with_what_came_before_it(partner):
    """Kind of fault: objects are noted in the order of their names, and what came back last is missed."""
    sampan = partner.sampan
    bodies = [encode(get_contract(CUSTOMS), rows(CUSTOMS, 5, seed=seed)) for seed in (1, 2)]
    partner.puts(CUSTOMS, DAY, "1.csv.gz", bodies[0])
    first = partner.ingest(CUSTOMS)["batch_id"]
    for name, body in (("2", bodies[1]), ("1", bodies[0])):
        sleep(1.1)
        sampan.deliver(CUSTOMS, DAY, f"{name}.csv.gz", body)
    partner.finds(CUSTOMS)
    partner.ingest(CUSTOMS)
    assert sampan.one("select batch_id from ops.batch order by counts_from desc, batch_id desc limit 1") == first


def test_land_refuses_a_delivery_until_its_date_has_come_when_it_is_for_the_future(partner):
    day = date.today() + timedelta(days=30)  # noqa: DTZ011
    partner.puts(CUSTOMS, day, "early.csv.gz", encode(get_contract(CUSTOMS), rows(CUSTOMS, 5)))
    assert land.run(CUSTOMS) == {"landed": 0, "repeated": 0, "refused": 1}
    ((problem,),) = partner.sampan.rows("select problem from ops.delivery")
    assert problem["rule"] == "delivery.future_date"
    assert problem["file"].endswith(f"/{day}/early.csv.gz")
    assert land.run(CUSTOMS) == {"landed": 0, "repeated": 0, "refused": 0}
    freshness.set_clock(datetime.combine(day, time(12), HONG_KONG))
    partner.finds(CUSTOMS)
    assert land.run(CUSTOMS) == {"landed": 1, "repeated": 0, "refused": 0}


@pytest.mark.parametrize("folder", ["06-07-2026", "2026-02-30", "2026-7-6", "latest", "20260706"])
def test_land_refuses_a_delivery_when_its_folder_is_not_a_date(folder, partner):
    partner.puts(CUSTOMS, folder, "x.csv.gz", b"x")
    assert land.run(CUSTOMS)["refused"] == 1
    ((problem,),) = partner.sampan.rows("select problem from ops.delivery")
    assert problem["rule"] == "delivery.no_business_date"


def test_what_lies_in_the_folder_of_no_feed_is_refused_told_and_goes_with_its_retention(partner):
    """A partner mistypes a folder: no fetch looks there, no one knows, and what it holds stays for ever."""
    sampan, bucket = partner.sampan, partner.sampan.environment["SAMPAN_DROP_BUCKET"]
    keys = ["customs/of A123456(3).csv.gz", "customs/Chan Tai Man/2026-07-06/x.csv.gz"]
    for key in (*keys, "customs/.DS_Store"):
        sampan.s3.put_object(Bucket=bucket, Key=key, Body=b"personal data")
    for _ in (1, 2):
        sampan.ingest(CUSTOMS)
    found = dict(
        sampan.rows("select source_uri, problem from ops.delivery where problem ->> 'rule' = 'delivery.no_feed'")
    )
    assert found.keys() == {f"s3://{bucket}/{key}" for key in keys}
    assert all("deliver to s3://" in problem["message"] for problem in found.values())
    assert found[f"s3://{bucket}/{keys[0]}"]["file"] == f"s3://{bucket}/customs/of [HKID].csv.gz"
    assert sampan.cli("status").stdout.count("delivery.no_feed") == 2
    retention.run(today() + timedelta(days=get_contract(CUSTOMS).retention_days + 1))
    assert sampan.s3.list_objects_v2(Bucket=bucket).get("Contents", []) == []
    left = sampan.rows("select source_uri, problem::text from ops.delivery")
    left += sampan.rows("select source_uri, objects::text from ops.deletion")
    assert len(left) == 6
    assert not [row for row in left if any(name in str(row) for name in ("A123456", "HKID", "Chan"))]


def test_land_goes_on_with_the_next_when_a_partner_took_a_delivery_back(partner):
    body = encode(get_contract(CUSTOMS), rows(CUSTOMS, 5))
    partner.puts(CUSTOMS, DAY, "gone.csv.gz", b"something else")
    partner.puts(CUSTOMS, DAY + timedelta(days=1), "kept.csv.gz", body)
    sampan = partner.sampan
    sampan.s3.delete_object(Bucket=sampan.environment["SAMPAN_DROP_BUCKET"], Key=sampan.delivered[0])
    assert land.run(CUSTOMS) == {"landed": 1, "repeated": 0, "refused": 1}
    partner.puts(CUSTOMS, DAY, "gone.csv.gz", b"something else")
    assert land.run(CUSTOMS) == {"landed": 1, "repeated": 0, "refused": 0}


class Denying:
    """An object store that lists an object and does not give it: it is archived, or locked by a key of the partner's."""

    def __init__(self, client, name: str) -> None:
        self.client, self.name = client, name

    def __getattr__(self, name):
        return getattr(self.client, name)

    def get_object(self, **arguments):
        if not arguments["Key"].endswith(self.name):
            return self.client.get_object(**arguments)
        answer = {"Error": {"Code": "InvalidObjectState"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, "GetObject")


def test_an_object_that_the_store_does_not_give_is_named_and_stops_nothing_else(partner, monkeypatch):
    """Fault: an answer about one object was taken for an outage, and no delivery behind it was ever landed."""
    body = encode(get_contract(CUSTOMS), rows(CUSTOMS, 5))
    partner.puts(CUSTOMS, DAY, "archived.csv.gz", b"something else")
    partner.puts(CUSTOMS, DAY + timedelta(days=1), "kept.csv.gz", body)
    with monkeypatch.context() as patch:
        client = partner.sampan.s3
        patch.setattr(Settings, "s3", lambda self: Denying(client, "archived.csv.gz"))
        assert partner.ingest(CUSTOMS)["state"] == "published"
        ((problem,),) = partner.sampan.rows("select problem from ops.delivery where problem is not null")
        assert (problem["rule"], "InvalidObjectState" in problem["message"]) == ("delivery.denied", True)
        assert problem["file"].endswith("/archived.csv.gz")
    partner.finds(CUSTOMS)
    assert land.run(CUSTOMS) == {"landed": 1, "repeated": 0, "refused": 0}


def test_a_delivery_is_received_when_it_was_sent_only_while_the_clock_is_set(partner):
    """Kind of fault: the demo's days lie years from the machine's, and all that came in time counts as late."""
    sampan, contract = partner.sampan, get_contract(CUSTOMS)
    sent = datetime.combine(DAY + timedelta(days=1), time(7, 15), HONG_KONG)

    def put(name: str, count: int) -> None:
        key = f"{contract.drop_prefix}{DAY}/{name}"
        body = encode(contract, rows(CUSTOMS, count))
        sampan.s3.put_object(
            Bucket=sampan.environment["SAMPAN_DROP_BUCKET"], Key=key, Body=body, Metadata={"sent-at": sent.isoformat()}
        )
        fetch.run(CUSTOMS)

    def received() -> datetime:
        return sampan.one("select received_at from ops.delivery order by source_uri desc limit 1")

    # A partner cannot set the clock, so what it says of itself does not count.
    put("1.csv.gz", 3)
    assert received() > sent + timedelta(hours=1) or received() < sent - timedelta(hours=1)
    freshness.set_clock(sent + timedelta(hours=4))
    put("2.csv.gz", 4)
    assert received() == sent
    # Another look does not change it.
    freshness.set_clock(None)
    fetch.run(CUSTOMS)
    assert received() == sent
    (polled,) = sampan.rows("select polled_at from ops.feed_poll where feed = %s", CUSTOMS)
    assert abs(polled[0] - datetime.now(HONG_KONG)) < timedelta(minutes=5)
