"""The end of a retention: what goes, what stays, the proof, and deaths in between. All values are synthetic."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import class_row
from sampan import failpoints, feed_hooks
from sampan.calendar import today
from sampan.contracts.registry import get_contract
from sampan.database import connect
from sampan.errors import PermanentFailure, TransientFailure
from sampan.governance import retention
from sampan.governance.partitions import maintenance_lock
from sampan.ingest import gate, lake, land, ledger, load, publish
from sampan.marts import as_known
from sampan.object_store import SeaweedFS, seaweedfs
from sampan.settings import settings

from tests.factory import rows
from tests.integration.marts.test_release import make_build, release_one, shown

FEED = "customs_declarations"
OLD, YOUNG = date(2026, 7, 6), date(2026, 7, 7)
KEPT = get_contract(FEED).retention_days
LAST_DAY, AFTER = OLD + timedelta(days=KEPT), OLD + timedelta(days=KEPT + 1)
PLACES = (
    "retention.after_note",
    "retention.before_commit",
    "retention.after_rows",
    "retention.after_object",
    "retention.before_verified",
)


@pytest.fixture
def two_days(partner):
    """Two deliveries of the feed, each with a row in quarantine; the landed objects have versions and a mark of deletion."""
    s3, bucket = partner.sampan.s3, settings().landing_bucket
    for day in (OLD, YOUNG):
        given = rows(FEED, 80, day)
        given[0]["hkhs_code"] = "none"
        partner.hands_over(FEED, day, given)
        batch = partner.ingest(FEED, day)
        assert (batch["state"], batch["rows_quarantined"]) == ("published", 1)
        assert lake.run(FEED, day) == {"written": 1, "removed": 0}
        key = batch["landing_uri"].removeprefix(f"s3://{bucket}/")
        s3.put_object(Bucket=bucket, Key=key, Body=b"another version")
        s3.delete_object(Bucket=bucket, Key=key)
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute(
            "create table intermediate.kept as select _batch_id as batch_id from raw.customs_declarations"
        )
    return partner.sampan


def counts(sampan) -> dict[str, list[tuple]]:
    """Rows of each batch in each place."""
    return {
        "raw": sampan.rows("select _batch_id, count(*) from raw.customs_declarations group by 1 order by 1"),
        "quarantine": sampan.rows("select batch_id, count(*) from quarantine.record group by 1 order by 1"),
        "derived": sampan.rows(
            "select batch_id, count(*) from intermediate.kept group by 1 order by 1", role="builder"
        ),
    }


def versions(sampan) -> set[tuple[str, str]]:
    """Bucket and key of every version of every object."""
    found = set()
    for bucket in (settings().drop_bucket, settings().landing_bucket, settings().lake_bucket):
        page = sampan.s3.list_object_versions(Bucket=bucket)
        found |= {(bucket, item["Key"]) for item in page.get("Versions", []) + page.get("DeleteMarkers", [])}
    return found


def objects_at(objects: list[dict]) -> str:
    """The one address at which versions of an object lay."""
    (uri,) = {f"s3://{item['bucket']}/{item['key']}" for item in objects}
    return uri


def everything_old_is_gone(sampan) -> None:
    found = counts(sampan)
    assert [[number for number, _ in place] for place in found.values()] == [[2], [2], [2]]
    assert versions(sampan)
    assert not any(str(OLD) in key for _, key in versions(sampan))
    ((sha, objects, raw, quarantined, derived, in_time, deleted),) = sampan.rows(
        "select content_sha256, objects, rows_raw, rows_quarantined, rows_derived, begun_at <= database_at"
        " and database_at <= verified_at, (select deleted_at from ops.batch where batch_id = 1) is not null"
        " from ops.deletion"
    )
    assert sha == sampan.one("select content_sha256 from ops.batch where batch_id = 1")
    assert (raw, quarantined, derived, in_time, deleted) == (79, 1, 79, True, True)
    buckets = {settings().drop_bucket, settings().landing_bucket, settings().lake_bucket}
    assert {item["bucket"] for item in objects} == buckets
    assert lake.key_of(FEED, OLD, 1) in {item["key"] for item in objects}
    assert sampan.rows("select batch_id from ops.lake_object") == [(2,)]
    assert all(item["version"] and item["bytes"] >= 0 for item in objects)


def test_retention_deletes_every_copy_and_proves_it_when_the_last_day_is_over(two_days):
    before = counts(two_days)
    assert retention.run(LAST_DAY) == dict.fromkeys(
        ("batches", "rows", "objects", "releases", "pages", "uploads", "consents"), 0
    )
    assert counts(two_days) == before
    done = retention.run(AFTER)
    assert (done["batches"], done["rows"]) == (1, 159)
    assert done["objects"] == 5
    everything_old_is_gone(two_days)
    assert retention.run(AFTER)["batches"] == 0
    everything_old_is_gone(two_days)
    # The ledger still says what there was, and nothing of it is taken up again.
    assert two_days.one("select rows_in from ops.batch where batch_id = 1") == 80
    two_days.ingest(FEED)
    everything_old_is_gone(two_days)


def landed_key(sampan) -> str:
    """Key of the older delivery in landing."""
    uri = sampan.one("select landing_uri from ops.batch where batch_id = 1")
    return uri.removeprefix(f"s3://{settings().landing_bucket}/")


def test_content_of_a_deleted_batch_is_served_by_no_number_when_it_is_called_gone(two_days, object_store):
    """Deleted by name, still there by number: SeaweedFS serves deleted content until it vacuums the volume."""
    store = seaweedfs()
    delivered = two_days.one("select source_uri from ops.delivery where batch_id = 1").split("/", 3)[3]
    pieces = [
        *store.pieces(settings().drop_bucket, delivered),
        *store.pieces(settings().landing_bucket, landed_key(two_days)),
        *store.pieces(settings().lake_bucket, lake.key_of(FEED, OLD, 1)),
    ]
    # The delivery, its landed copy, the second version of that, and the rows in the lake.
    assert len(set(pieces)) == 4

    def served() -> list[int]:
        # The volume has another port, and asks for the same certificate.
        addresses = [f"https://127.0.0.1:{object_store.port + 6}/{piece}?readDeleted=true" for piece in pieces]
        with object_store.filer() as client:
            return [client.get(address).status_code for address in addresses]

    assert served() == [200] * 4
    retention.run(AFTER)
    assert served() == [404] * 4
    ((objects, looked_at),) = two_days.rows("select objects, looked_at from ops.deletion where verified_at is not null")
    assert {piece for item in objects for piece in item.get("pieces", [])} == set(pieces)
    assert "by its file id" in looked_at


def test_a_deletion_is_not_called_done_when_its_content_is_still_served(two_days, object_store, monkeypatch):
    """The service behind the vacuum does not do its work: no proof is given."""
    monkeypatch.setattr(SeaweedFS, "_vacuum", lambda *_: None)
    monkeypatch.setattr("sampan.object_store.PATIENCE", 2)
    with pytest.raises(TransientFailure, match="still serves deleted content"):
        retention.run(AFTER)
    assert two_days.one("select count(*) from ops.deletion where verified_at is not null") == 0
    monkeypatch.undo()
    assert retention.run(AFTER)["batches"] == 1
    everything_old_is_gone(two_days)


def test_the_proof_says_what_was_looked_at_when_the_store_is_not_ours(two_days, monkeypatch):
    """For a service of others the proof claims no more than its interface shows."""
    for name in [name for name in os.environ if name.startswith("SAMPAN_SEAWEEDFS_")]:
        monkeypatch.delenv(name)
    settings.cache_clear()
    assert retention.run(AFTER)["batches"] == 1
    looked_at = two_days.one("select looked_at from ops.deletion where verified_at is not null")
    assert "every version and delete marker" in looked_at
    assert "not known" in looked_at


@pytest.mark.parametrize("place", PLACES)
def test_retention_finishes_when_it_died_in_between(place, two_days):
    code = f"import datetime, sampan.governance.retention as r; r.run(datetime.date.fromisoformat('{AFTER}'))"
    died = two_days.cli("-c", code, SAMPAN_FAILPOINT=place)
    assert died.returncode == -9, died.stderr
    assert two_days.one("select count(*) from ops.deletion where verified_at is not null") == 0
    assert retention.run(AFTER)["batches"] == 1
    everything_old_is_gone(two_days)


def test_retention_does_not_call_it_done_when_something_is_still_there(two_days, monkeypatch):
    monkeypatch.setattr(retention, "_delete_derived", lambda *_: 0)
    with pytest.raises(TransientFailure, match=r"still found in intermediate\.kept"):
        retention.run(AFTER)
    assert two_days.one("select count(*) from ops.deletion where verified_at is not null") == 0


@pytest.mark.parametrize(
    ("role", "reads", "told"),
    [
        ("steward_customs", f"select count(*) from quarantine.{FEED}__rows", r"session [0-9]+ of {login} reads it"),
        ("bi_reader", "select 1", "a transaction that began before they were deleted is open"),
    ],
)
def test_a_batch_is_not_called_gone_while_a_reader_keeps_its_rejected_rows_in_the_file(role, reads, told, two_days):
    """By an open transaction, deleted rows stayed in the server's files, in silence: only a run that deletes another batch
    wrote the table again."""
    login, password = f"reader_{secrets.token_hex(4)}", secrets.token_hex(16)
    with psycopg.connect(settings().dsn("admin"), autocommit=True) as admin:
        admin.execute(f"create role {login} login password '{password}' in role {role}")
        admin.execute(f"grant connect on database {admin.info.dbname} to {login}")
    dsn = make_conninfo(settings().dsn("admin"), user=login, password=password)
    try:
        with psycopg.connect(dsn) as reader:
            reader.execute("set transaction isolation level repeatable read")
            reader.execute(reads)
            with pytest.raises(TransientFailure, match=told.format(login=login)):
                retention.run(AFTER)
            assert two_days.rows("select count(*) from ops.deletion where verified_at is not null") == [(0,)]
            assert two_days.one("select count(*) from ops.alert where kind = 'retention'") == 1
    finally:
        with psycopg.connect(settings().dsn("admin"), autocommit=True) as admin:
            admin.execute(f"revoke connect on database {admin.info.dbname} from {login}")
            admin.execute(f"drop role {login}")
    retention.run(AFTER)
    everything_old_is_gone(two_days)


def test_retention_gives_way_to_another_run(two_days):
    with maintenance_lock(), pytest.raises(TransientFailure, match="another maintenance run"):
        retention.run(AFTER)


def test_what_was_begun_is_taken_back_when_the_contract_keeps_it_after_all(two_days, monkeypatch):
    died = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # noqa: E731
    before, there = counts(two_days), versions(two_days)
    with monkeypatch.context() as patch:
        patch.setattr(retention, "_delete_batch", died)
        with pytest.raises(KeyboardInterrupt):
            retention.run(AFTER)
    assert two_days.rows("select batch_id, database_at from ops.deletion") == [(1, None)]
    assert retention.run(LAST_DAY)["batches"] == 0
    assert two_days.one("select count(*) from ops.deletion") == 0
    assert (counts(two_days), versions(two_days)) == (before, there)
    assert retention.run(AFTER)["batches"] == 1


def test_retention_deletes_most_of_a_feed_only_when_that_is_asked_for(two_days, monkeypatch):
    monkeypatch.setattr(retention, "MASS_DELETE_BATCHES", 2)
    after_both = AFTER + timedelta(days=1)
    before = counts(two_days)
    with pytest.raises(PermanentFailure, match=f"2 of the 2 batches of {FEED} .* --allow-mass-delete"):
        retention.run(after_both)
    assert counts(two_days) == before
    assert retention.run(AFTER)["batches"] == 1
    assert retention.run(after_both, allow_mass_delete=True)["batches"] == 1


def test_a_batch_that_was_never_published_is_deleted_and_cannot_go_on(partner):
    partner.hands_over(FEED, OLD, rows(FEED, 5, OLD))
    for step in (land, load, gate):
        step.run(FEED)
    assert retention.run(AFTER)["batches"] == 1
    batch = partner.sampan.batch(FEED)
    assert (batch["state"], batch["problem"]["rule"]) == ("held", "retention.ended")
    assert [batch[f"rows_{what}"] for what in ("in", "published", "quarantined", "duplicate")] == [None] * 4
    assert publish.run(FEED)["batches"] == 0
    with connect() as connection:
        (row,) = connection.cursor(row_factory=class_row(ledger.Batch)).execute(
            f"select {ledger.COLUMNS} from ops.batch"
        )
        assert ledger.claim(connection, row) is None
    assert (load.reset_held(FEED), partner.sampan.batch(FEED)["state"]) == (0, "held")
    assert partner.sampan.rows("select relname from pg_class where relname like 'customs_declarations__b%%'") == []


@pytest.mark.parametrize("name", ["delivery.csv.gz", "once_more.csv.gz"])
def test_what_was_deleted_is_refused_and_deleted_again_when_it_is_delivered_again(name, two_days, partner):
    key = two_days.one("select source_uri from ops.delivery where batch_id = 1").split("/", 3)[3]
    body = two_days.s3.get_object(Bucket=settings().drop_bucket, Key=key)["Body"].read()
    retention.run(AFTER)
    for times in (1, 2):
        partner.puts(FEED, OLD, name, body)
        assert land.run(FEED) == {"landed": 0, "repeated": 0, "refused": 1}
        assert (
            two_days.one("select count(*) from ops.open_problem where problem ->> 'rule' = 'delivery.past_retention'")
            == 1
        )
        assert [bucket for bucket, key in versions(two_days) if str(OLD) in key] == [settings().drop_bucket]
        done = retention.run(AFTER)
        assert (done["batches"], done["objects"]) == (0, 1)
        assert not any(str(OLD) in key for _, key in versions(two_days))
        proofs = two_days.rows(
            "select reason, jsonb_array_length(objects), verified_at is not null from ops.deletion where kind = 'delivery'"
        )
        assert proofs == [("refused: delivery.past_retention", 1, True)] * times
        assert retention.run(AFTER)["objects"] == two_days.one("select count(*) from ops.open_problem") == 0


def test_a_delivery_is_refused_when_its_date_is_past_the_retention(partner):
    last = today() - timedelta(days=KEPT)
    for day in (last, last - timedelta(days=1)):
        partner.hands_over(FEED, day, rows(FEED, 5, OLD))
    assert land.run(FEED) == {"landed": 1, "repeated": 0, "refused": 1}
    assert partner.sampan.batch(FEED)["business_date"] == last


@pytest.mark.parametrize(("death", "left"), [("retention.after_note", 1), ("retention.after_object", 0)])
def test_what_was_refused_goes_with_a_proof_when_its_retention_is_over_and_a_run_died(
    death, left, partner, monkeypatch
):
    # Two deliveries under one name; the second replaces the first.
    partner.puts(FEED, "undated", "x.csv.gz", b"1")
    partner.puts(FEED, "undated", "x.csv.gz", b"2")
    assert land.run(FEED)["refused"] == 2
    over = today() + timedelta(days=KEPT + 1)
    assert retention.run(over - timedelta(days=1))["objects"] == 0

    def dies(place: str) -> None:
        if place == death:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "hit", dies)
        with pytest.raises(KeyboardInterrupt):
            retention.run(over)
    assert retention.run(over)["objects"] == left
    assert versions(partner.sampan) == set()
    ((kind, objects, done),) = partner.sampan.rows("select kind, objects, verified_at is not null from ops.deletion")
    assert (kind, len({item["version"] for item in objects}), done) == ("delivery", 1, True)
    assert retention.run(over)["objects"] == 0
    assert [row[:2] for row in retention.proofs()] == [("delivery", objects_at(objects))]


def test_the_list_of_deletions_shows_no_number_of_a_person_while_one_is_not_done(partner, monkeypatch):
    """Kind of fault: a name of a file that is shown as it came. It is kept so until the object is seen to be gone."""
    partner.puts(FEED, "undated", "of A123456(3).csv.gz", b"1")
    assert land.run(FEED)["refused"] == 1

    def dies(place: str) -> None:
        if place == "retention.after_note":
            raise KeyboardInterrupt

    monkeypatch.setattr(failpoints, "hit", dies)
    with pytest.raises(KeyboardInterrupt):
        retention.run(today() + timedelta(days=KEPT + 1))
    assert "A123456(3)" in partner.sampan.one("select source_uri from ops.deletion where verified_at is null")
    ((_, shown, *_),) = retention.proofs()
    assert shown.endswith("/undated/of [HKID].csv.gz")


@pytest.mark.parametrize("within", ["", "papers of Chan Tai Man/"], ids=["", "folder of a person"])
def test_an_upload_that_was_never_completed_is_aborted_by_its_age_told_and_gone(within, partner):
    """Kind of fault: content that no list of objects shows. Parts of an upload stay until somebody aborts it."""
    sampan, store = partner.sampan, seaweedfs()
    place = {
        "Bucket": settings().drop_bucket,
        "Key": f"customs/{FEED}/{OLD}/{within}of Chan Tai Man, A123456(3).csv.gz",
    }
    s3 = settings().s3(get_contract(FEED).partner)
    upload = s3.create_multipart_upload(**place)["UploadId"]
    s3.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"personal data" * 1000)
    pieces = store.pieces_of_upload(place["Bucket"], upload)
    assert len(pieces) == 1
    assert retention.run(today() + timedelta(days=7))["uploads"] == 0
    assert retention.run(today() + timedelta(days=8))["uploads"] == 1
    assert sampan.s3.list_multipart_uploads(Bucket=place["Bucket"]).get("Uploads", []) == []
    assert store.forget(pieces) == []
    ((message,),) = sampan.rows("select message from ops.alert where kind = 'retention'")
    assert message.startswith("1 uploads were begun more than 7 days before")
    ((proof, is_verified),) = sampan.rows("select to_jsonb(d)::text, verified_at is not null from ops.deletion d")
    assert is_verified
    assert pieces[0] in proof
    assert f"customs/{FEED}/{OLD}/." in message
    assert not [text for text in (message, proof) if "123456" in text or "Chan Tai Man" in text]
    assert retention.run(today() + timedelta(days=8))["uploads"] == 0


@pytest.mark.parametrize("action", ["s3:ListBucketMultipartUploads", "s3:AbortMultipartUpload"])
def test_retention_says_which_right_is_missing_when_the_store_denies_it(action, two_days, partner):
    """Kind of fault: another S3, whose policy is older than this version, ends every run of retention."""
    sampan, bucket = partner.sampan, settings().drop_bucket
    place = {"Bucket": bucket, "Key": f"customs/{FEED}/{OLD}/part.csv.gz"}
    s3 = settings().s3(get_contract(FEED).partner)
    upload = s3.create_multipart_upload(**place)["UploadId"]
    s3.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"personal data" * 1000)
    deny = {"Effect": "Deny", "Principal": "*", "Action": action}
    deny["Resource"] = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    sampan.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    try:
        done = retention.run(AFTER)
    finally:
        sampan.s3.delete_bucket_policy(Bucket=bucket)
    assert (done["batches"], done["uploads"]) == (1, 0)
    ((message,),) = sampan.rows("select message from ops.alert where kind = 'retention'")
    assert action in message
    assert "`sampan contracts policy`" in message
    assert [item["UploadId"] for item in sampan.s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    assert retention.run(AFTER)["uploads"] == 1
    assert sampan.one("select count(*) from ops.deletion where kind = 'upload' and verified_at is null") == 0


@pytest.mark.parametrize("folder", ["undated", str(OLD)])
def test_an_object_goes_whatever_characters_its_name_has(folder, partner):
    """Kind of fault: a search that finds nothing, because it looks under another name, counts as proof of deletion."""
    partner.puts(FEED, folder, "x\x1b[2J.csv.gz", b"no gzip")
    land.run(FEED)
    over = today() + timedelta(days=KEPT + 1)
    assert retention.run(over, allow_mass_delete=True)["objects"] == (1 if folder == "undated" else 2)
    s3 = partner.sampan.s3
    buckets = (partner.sampan.environment[f"SAMPAN_{name}_BUCKET"] for name in ("DROP", "LANDING"))
    assert [s3.list_objects_v2(Bucket=bucket).get("Contents", []) for bucket in buckets] == [[], []]


def test_old_releases_go_and_the_live_one_stays(sampan):
    first, second = release_one(), release_one()
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute("update ops.release set released_at = released_at - interval '91 days'")
    assert retention.run()["releases"] == 1
    assert shown() == {second}
    assert sampan.rows("select release_no, verified_at is not null from ops.deletion") == [(first, True)]
    assert sampan.one("select to_regnamespace(%s) is null", f"release_{first}")


PAGES = ("en/index.html", "data/mart_published_exports.csv", "zh-Hant/question-01.html")


@pytest.fixture
def pages(sampan) -> Iterator[Callable[[], set[str]]]:
    """Pages of three releases in the store, two of them past their retention. Returns the keys that are there."""
    bucket, s3 = settings().report_bucket, sampan.s3
    numbers = [release_one() for _ in range(3)]
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        old = "update ops.release set released_at = released_at - interval '91 days' where release_no = any(%s)"
        connection.execute(old, [numbers[:2]])
    for key in ("index.html", "release_x/notes", *(f"release_{n}/{page}" for n in (*numbers, 1000) for page in PAGES)):
        s3.put_object(Bucket=bucket, Key=key, Body=b"five cells of three enterprises each")
    yield lambda: {item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    for item in s3.list_objects_v2(Bucket=bucket)["Contents"]:
        s3.delete_object(Bucket=bucket, Key=item["Key"])


def test_pages_go_with_their_release(pages, sampan):
    """Kind of fault: a copy that no retention knows. Pages have cells of few enterprises, and stayed for ever."""
    before, store = pages(), seaweedfs()
    first, second, live = (number for (number,) in sampan.rows("select release_no from ops.release order by 1"))
    pieces = store.pieces(settings().report_bucket, f"release_{first}/{PAGES[0]}")
    assert retention.run()["pages"] == 2
    assert before - pages() == {f"release_{number}/{page}" for number in (first, second) for page in PAGES}
    assert f"release_{live}/{PAGES[0]}" in pages()
    assert store.forget(pieces) == []
    proofs = sampan.rows(
        "select source_uri, jsonb_array_length(objects), verified_at >= database_at from ops.deletion"
        " where kind = 'pages' order by 1"
    )
    assert proofs == [(f"s3://reports/release_{number}/", len(PAGES), True) for number in (first, second)]
    assert retention.run()["pages"] == 0


def test_pages_go_with_their_release_where_the_desk_shows_them_too(pages, sampan):
    """Kind of fault: a copy that no retention knows. The newest five stayed in the state folder, however old they were."""
    first, second, live = (number for (number,) in sampan.rows("select release_no from ops.release order by 1"))
    folders = {number: (settings().state / "reports") / f"release_{number}" for number in (first, second, live)}
    for folder in folders.values():
        (folder / "en").mkdir(parents=True)
        (folder / PAGES[0]).write_text("five cells of three enterprises each")
    # One whose copy in the store is gone already.
    for page in PAGES:
        sampan.s3.delete_object(Bucket=settings().report_bucket, Key=f"release_{first}/{page}")
    assert retention.run()["pages"] == 2
    assert [number for number, folder in folders.items() if folder.exists()] == [live]
    proofs = sampan.rows("select source_uri from ops.deletion where looked_at = 'the state folder' order by 1")
    assert proofs == [(f"state:reports/release_{number}/",) for number in (first, second)]
    assert retention.run()["pages"] == 0


def test_pages_go_when_the_run_before_died(pages, sampan, monkeypatch):
    dies = iter([False, False, True])

    def hit(place: str) -> None:
        if place == "retention.after_object" and next(dies, False):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "hit", hit)
        with pytest.raises(KeyboardInterrupt):
            retention.run()
    retention.run()
    assert len(pages()) == 2 + 2 * len(PAGES)
    assert sampan.one("select count(*) from ops.deletion where verified_at is null") == 0


def test_retention_says_which_right_is_missing_when_pages_cannot_be_deleted(pages, sampan):
    bucket, before = settings().report_bucket, pages()
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject*", "Resource": [f"arn:aws:s3:::{bucket}/*"]}
    sampan.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    try:
        assert retention.run()["pages"] == 0
    finally:
        sampan.s3.delete_bucket_policy(Bucket=bucket)
    messages = [message for (message,) in sampan.rows("select message from ops.alert where kind = 'retention'")]
    assert any("s3:DeleteObject" in message and "`sampan contracts policy`" in message for message in messages)
    assert pages() == before


def test_retention_fails_and_names_the_session_when_a_release_past_it_is_being_read(sampan):
    """A deletion that did not happen, and was called done: the reader kept the release, and no one was told."""
    first = release_one()
    release_one()
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        old = "update ops.release set released_at = released_at - interval '91 days' where release_no = %s"
        connection.execute(old, [first])
    with psycopg.connect(settings().dsn("bi")) as reader:
        reader.execute(f"select * from release_{first}.mart_one")
        done = sampan.cli("retention", "run")
        named = f"release {first} .* session {reader.info.backend_pid} of bi_reader"
        assert done.returncode == 1
        assert re.search(named, done.stderr)
        assert "[retention.in_use]" in done.stderr
        ((kind, message),) = sampan.rows("select kind, message from ops.alert")
        assert kind == "retention"
        assert re.search(named, message)
        assert sampan.rows("select verified_at from ops.deletion") == [(None,)]
    assert retention.run()["releases"] == 1
    assert sampan.one("select verified_at is not null from ops.deletion")


def test_retention_fails_when_a_view_of_somebody_keeps_a_release(sampan):
    """The same kind: not a session, but an object that depends on the release."""
    first = release_one()
    release_one()
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute("update ops.release set released_at = released_at - interval '91 days'")
        connection.execute(f"create view staging.mine as select * from release_{first}.mart_one")
    with pytest.raises(PermanentFailure, match="views of others depend on it"):
        retention.run()
    assert make_build()


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Auckland"])
def test_a_release_is_kept_by_the_days_of_hong_kong_wherever_the_host_is(zone, sampan, monkeypatch):
    gone, kept, _ = release_one(), release_one(), release_one()
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        for number, moment in ((gone, "2026-07-05 23:59:59+08"), (kept, "2026-07-06 00:00:00+08")):
            connection.execute("update ops.release set released_at = %s where release_no = %s", [moment, number])
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert retention.run(date(2026, 7, 6) + timedelta(days=settings().release_days))["releases"] == 1
    finally:
        monkeypatch.undo()
        time.tzset()
    assert sampan.one("select to_regnamespace(%s) is null", f"release_{gone}")
    assert sampan.one("select to_regnamespace(%s) is not null", f"release_{kept}")


def look_back(day: int, made: bool) -> str:
    """Marts as known on a day, begun 100 days ago."""
    with psycopg.connect(settings().dsn("builder")) as connection:
        ((schema,),) = connection.execute(
            "with begun as (insert into ops.build (state, as_of_date, opened_at)"
            " values ('as_known', '2026-07-01', now() - interval '100 days') returning build_no, opened_at)"
            " insert into ops.as_known (build_no, known_on, known_until, basis, schema_name, deleted_batches, made_at)"
            " select build_no, make_date(2026, 7, %(day)s), now(), 'published', format('as_known_2026070%%s', %(day)s::int),"
            " 0, case when %(made)s then opened_at end from begun returning schema_name",
            {"day": day, "made": made},
        ).fetchall()
        connection.execute(f"create schema {schema}")
        connection.execute(f"create schema {schema}_intermediate")
        connection.execute(f"create table {schema}.mart_one as select 1 as id")
    return schema


def test_look_backs_go_also_those_that_died_and_one_in_use_stops_nothing(sampan, monkeypatch):
    used, died, making = look_back(3, True), look_back(2, False), look_back(1, False)
    consents = []
    monkeypatch.setattr(feed_hooks, "delete_expired", lambda *_: consents.append(1) or {})
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute(f"create view staging.stands as select * from {used}.mart_one")
        with as_known._lock(making), pytest.raises(PermanentFailure, match=f"cannot drop {used}"):
            retention.run()
        assert consents == [1]
        assert [item["schema"] for item in as_known.list_snapshots()] == [used, making]
        assert sampan.rows("select nspname from pg_namespace where nspname like %s", f"{died}%") == []
        connection.execute("drop view staging.stands")
    assert retention.run()["releases"] == 2
    assert sampan.rows("select nspname from pg_namespace where nspname like 'as_known%%'") == []
