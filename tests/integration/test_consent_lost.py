"""Revocations that do not get through: the bank still stops reading, and someone is told.

Fault, of all tests here unless they say otherwise: bad news that is lost fails open. All values are synthetic.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import zipfile
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
import zstandard
from sampan import consent
from sampan.contracts.registry import all_contracts, get_contract
from sampan.governance import retention
from sampan.ingest import fetch, publish

from tests.conftest import Sampan
from tests.integration.test_consent import LONG_AGO, TODAY, YESTERDAY, bank, change, make_release, seen

LOST, OTHER = 1, 2
ID = f"CS{LOST:010}"
# Enough sound rows for one that is not to be within the budget of the feed.
SOUND = [change(number) for number in range(101, 201)]


def lines(*records: dict[str, Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def revocation(**values: Any) -> dict[str, Any]:
    return change(LOST, **{"status": "revoked", "day": YESTERDAY} | values)


def spelt(spelling: str) -> bytes:
    return lines(revocation(purpose="other")).replace(ID.encode(), spelling.encode())


def zipped(body: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("changes.jsonl", body)
    return out.getvalue()


# A frame that readers of zstd pass over, as programs put it before their content: 4 bytes long.
SKIPPED = b"\x5a\x2a\x4d\x18\x04\x00\x00\x00note"
# What the partner delivers, by what befalls it. Each says that consent 1 is revoked.
DELIVERIES: dict[str, bytes] = {
    "a row in quarantine among sound ones": lines(revocation(channel="x" * 41), *SOUND),
    "contradicting rows": lines(revocation(), revocation(status="renewed"), *SOUND),
    "a batch above its budget": lines(revocation(purpose="marketing")),
    "a status in upper case": lines(revocation(status="REVOKED"), *SOUND),
    "a status that no one knows": lines(revocation(status="withdrawn"), *SOUND),
    "a bank in lower case": lines(revocation(dataConsumerId="b001"), *SOUND),
    "a time after the day of the delivery": lines(
        revocation(statusTime=f"{TODAY + timedelta(days=1)} 00:05:00"), *SOUND
    ),
    "no time": lines(revocation(statusTime=None), *SOUND),
    "a line that is cut off": lines(*SOUND) + lines(revocation())[:90],
    "a record that is not an object": lines(*SOUND) + json.dumps([ID, "revoked"]).encode(),
    "a key twice": lines(*SOUND) + b'{"consentId": "%s", "consentId": "CS0000000101"}\n' % ID.encode(),
    "a consent id in lower case": spelt(ID.lower()),
    "a consent id with blanks": spelt("CS 0000 0000 01"),
    "a consent id in full width": spelt("".join(chr(ord(c) + 0xFEE0) for c in ID)),
    "a consent id with hyphens": spelt("cs-00000-00001"),
    "a consent id with escapes": spelt("".join(f"\\u{ord(c):04x}" for c in ID)),
    "a consent id with O for 0": spelt("CSOOOOOOOOO1"),
    "a consent id without its letters": spelt(ID[2:]),
    "a consent id in another key": lines({"id": ID, "status": "revoked"}, *SOUND),
    "another file's columns": lines({"id": ID, "state": "revoked"}),
    "a file in UTF-16": lines(revocation()).decode().encode("utf-16"),
    "a file that is compressed": gzip.compress(lines(revocation())),
    "a file that is compressed and cut off": gzip.compress(lines(revocation()) + bytes(range(256)) * 99)[:-99],
    "a file in a frame of zstd behind one that is skipped": SKIPPED + zstandard.compress(lines(revocation())),
    "a table": b"consentId,status\n" + ID.encode() + b",revoked\n",
    "one line of many records": json.dumps([change(900 + n) for n in range(7000)] + [revocation()]).encode(),
}


@pytest.fixture
def reading(sampan: Sampan) -> Sampan:
    """A bank reads under consents 1 and 2."""
    sampan.deliver("cdi_consents", YESTERDAY, "granted.jsonl", lines(change(LOST), change(OTHER)))
    sampan.ingest("cdi_consents")
    make_release()
    assert read() == {LOST, OTHER}
    return sampan


def read() -> set[int]:
    """Numbers of the consents that the bank reads under now."""
    with bank() as connection:
        return {int(row[1].removeprefix("CS")) for row in seen(connection)}


@pytest.mark.parametrize("befell", list(DELIVERIES))
def test_the_bank_stops_reading_when_a_revocation_does_not_get_through(befell, reading):
    reading.deliver("cdi_consents", TODAY, "changes.jsonl", DELIVERIES[befell])
    reading.ingest("cdi_consents")
    assert read() == {OTHER}
    alerts = reading.rows("select message from ops.alert where kind = 'rejected' and feed = 'cdi_consents'")
    assert any(ID in message for (message,) in alerts), alerts
    assert ID in reading.cli("consent", "suspended").stdout
    assert "suspended: since" in reading.cli("consent", "show", ID).stdout


@pytest.mark.parametrize("day", ["latest", str(TODAY + timedelta(days=1)), "1999-01-01"])
def test_the_bank_stops_reading_when_the_file_is_refused_and_when_the_partner_removes_it(day, reading):
    key = reading.deliver("cdi_consents", day, "revoked.jsonl", lines(revocation()))
    reading.ingest("cdi_consents")
    assert read() == {OTHER}
    reading.s3.delete_object(Bucket=reading.environment["SAMPAN_DROP_BUCKET"], Key=key)
    reading.ingest("cdi_consents")
    assert read() == {OTHER}
    ((message,),) = reading.rows("select message from ops.alert where kind = 'rejected'")
    assert ID in message


# Names that say that a file is not a delivery, and places where none is looked for.
BESIDE = (
    "revocations.ok", ".revocations.jsonl", "_revocations.json", "revocations.jsonl.part", "revocations.jsonl~",
    ".tmp/revocations.jsonl", "revocations.sha256", "~$revocations.jsonl",
)  # fmt: skip
ASTRAY = ("revocations.jsonl", "consents/2026-11-28/x.jsonl", "cdi_consent/x.jsonl", "cdi_consents_2026-11-28.jsonl")


def test_the_bank_stops_reading_when_the_news_lies_where_no_delivery_does(reading):
    """A file under the name of a marker, or beside the feeds' folders, is seen by no one."""
    prefix = get_contract("cdi_consents").drop_prefix
    keys = [f"{prefix}{TODAY}/{name}" for name in BESIDE] + [f"cdi/{name}" for name in ASTRAY]
    for number, key in enumerate(keys, LOST):
        body = lines(change(number if number == LOST else 200 + number, "revoked", YESTERDAY))
        reading.s3.put_object(Bucket=reading.environment["SAMPAN_DROP_BUCKET"], Key=key, Body=body)
        reading.delivered.append(key)
    reading.ingest("cdi_consents")
    assert read() == {OTHER}
    lost = {ID, *(f"CS{200 + number:010}" for number in range(LOST + 1, LOST + len(keys)))}
    assert {number for number, *_ in consent.suspended()} == lost
    messages = [m for (m,) in reading.rows("select message from ops.alert where kind = 'rejected'")]
    assert len(messages) == len(keys)
    assert all(any(number in message for message in messages) for number in lost)
    assert sum("it is in the folder of no feed; deliver to" in message for message in messages) == len(ASTRAY)


NAMED = {
    f"{ID} revocation.pdf": b"%PDF-1.7 \x00 a scanned letter",
    f"{ID}/letter.bin": b"\x89PNG",
    f"latest/{ID}.jsonl": b"",
    f"revocation of {ID}.ok": b"",
}


@pytest.mark.parametrize("name", list(NAMED))
def test_the_bank_stops_reading_when_only_the_name_of_what_is_lost_says_which_consent(name, reading):
    """Kind of fault: what a person reads off at once, no one looks at."""
    prefix = get_contract("cdi_consents").drop_prefix
    key = f"{prefix}{name}" if name.startswith("latest/") else f"{prefix}{TODAY}/{name}"
    reading.s3.put_object(Bucket=drop_of(reading), Key=key, Body=NAMED[name])
    reading.delivered.append(key)
    reading.ingest("cdi_consents")
    assert read() == {OTHER}
    assert [number for number, *_ in consent.suspended()] == [ID]


def others_of_the_partner() -> list[str]:
    consents = get_contract("cdi_consents")
    return sorted(c.feed for c in all_contracts().values() if c.partner == consents.partner and c.feed != consents.feed)


ASTRAY_AS = {
    "a delivery": ("revocations.jsonl", lines(revocation())),
    "a delivery with other keys": ("revocations.jsonl", lines({"id": ID, "state": "Revoked"})),
    "a renewal that narrows": ("changes.jsonl", lines(revocation(status="renewed", scope="payment"))),
    "a table": ("a.csv", b"consentId,status,scope,validTo\n%s,ended,payment,2026-01-01\n" % ID.encode()),
    "a delivery with escapes": ("e.jsonl", b'{"id": "%s", "state": "\\u0072evoked"}\n' % ID.encode()),
    "a part of an upload": ("revocations.jsonl.part", lines(revocation())),
    "an object of no date": ("../revocations.jsonl", lines(revocation())),
    "a compressed file": ("a.jsonl.gz", gzip.compress(lines(revocation()))),
}


@pytest.mark.parametrize("feed", others_of_the_partner())
def test_the_bank_stops_reading_when_a_revocation_lies_in_the_folder_of_another_feed(feed, reading):
    """It is refused there, or held, or ignored: what it says is as lost as in the right folder."""
    prefix = get_contract(feed).drop_prefix
    for number, (name, body) in enumerate(ASTRAY_AS.values(), LOST):
        consent_id = f"CS{300 + number:010}" if number > LOST else ID
        body = body if name.endswith("gz") else body.replace(ID.encode(), consent_id.encode())
        key = f"{prefix}{name[3:]}" if name.startswith("../") else f"{prefix}{LONG_AGO}/{number}-{name}"
        reading.s3.put_object(Bucket=reading.environment["SAMPAN_DROP_BUCKET"], Key=key, Body=body)
        reading.delivered.append(key)
    reading.ingest(feed)
    assert read() == {OTHER}
    wanted = {ID, *(f"CS{300 + n:010}" for n in range(LOST + 1, LOST + len(ASTRAY_AS) - 1))}
    assert {number for number, *_ in consent.suspended()} == wanted
    query = "select message from ops.alert where kind = 'rejected' and feed = 'cdi_consents'"
    messages = [message for (message,) in reading.rows(query)]
    assert any(ID in message for message in messages)
    # Delivered where it belongs, it counts, and nothing of it is lost any more.
    reading.deliver("cdi_consents", LONG_AGO, "revocations.jsonl", ASTRAY_AS["a delivery"][1])
    reading.ingest("cdi_consents")
    assert "revoked" in reading.cli("consent", "show", ID).stdout


@pytest.mark.parametrize("feed", others_of_the_partner())
def test_what_another_feed_says_of_consents_suspends_nothing_when_it_is_held(feed, reading):
    """Its rows name consents as they should: banks would stop reading with each delivery that is held."""
    columns = [column.source_name for column in get_contract(feed).columns]
    record = dict.fromkeys(columns, "x") | {next(c for c in columns if c in ("consentId", "consent_id")): ID}
    csv_ = f"{','.join(record)}\n{','.join(record.values())}\n".encode()
    is_table = get_contract(feed).source.format == "csv"
    reading.deliver(feed, LONG_AGO, "a", csv_ if is_table else lines(record))
    reading.deliver(feed, "latest", "b", csv_ if is_table else lines(record))
    reading.ingest(feed)
    assert reading.batch(feed)["state"] == "held"
    assert consent.suspended() == []
    assert read() == {LOST, OTHER}


def test_a_copy_beside_the_delivery_suspends_nothing(reading):
    """A partner's program leaves the file that it uploaded under a second name: nothing is lost."""
    for name in ("changes.jsonl", "changes.jsonl.part", "granted.jsonl.bak"):
        record = change(LOST) if "granted" in name else change(OTHER, "renewed", TODAY)
        others = [change(OTHER)] if "granted" in name else []
        reading.deliver("cdi_consents", TODAY, name, lines(record, *others))
    reading.ingest("cdi_consents")
    assert consent.suspended() == []
    assert reading.rows("select message from ops.alert") == []
    assert read() == {LOST, OTHER}


TWINS = {
    "the partner removes it": lambda sampan, key: sampan.s3.delete_object(Bucket=drop_of(sampan), Key=key),
    "the partner overwrites it": lambda sampan, key: sampan.s3.put_object(
        Bucket=drop_of(sampan), Key=key, Body=lines(*SOUND)
    ),
}


def drop_of(sampan: Sampan) -> str:
    return sampan.environment["SAMPAN_DROP_BUCKET"]


@pytest.mark.parametrize("feed", ["cdi_consents", others_of_the_partner()[0]])
@pytest.mark.parametrize("befell", list(TWINS))
def test_the_bank_stops_reading_when_only_a_copy_of_the_revocation_is_left(befell, feed, reading):
    """The copy was passed over, since a delivery had the same content. No one ever read that delivery."""
    prefix = get_contract(feed).drop_prefix
    reading.s3.put_object(Bucket=drop_of(reading), Key=f"{prefix}{TODAY}/changes.jsonl.part", Body=lines(revocation()))
    key = reading.deliver("cdi_consents", TODAY, "changes.jsonl", lines(revocation()))
    for step in {"cdi_consents", feed}:
        fetch.run(step)
    TWINS[befell](reading, key)
    reading.ingest("cdi_consents")
    assert read() == {OTHER}
    assert [number for number, *_ in consent.suspended()] == [ID]


@pytest.mark.parametrize("order", ["copy first", "copy last"])
def test_the_bank_stops_reading_when_the_key_of_the_revocation_cannot_be_stored(order, reading, monkeypatch):
    """Under such a key it is refused unread. Its copy, under a name that is ignored, has what it said."""
    key = reading.deliver("cdi_consents", TODAY, "changes.jsonl", lines(revocation()))
    listed = fetch.list_objects

    def unstorable(prefix: str) -> Any:
        for item in listed(prefix):
            yield item | {"Key": f"{key}\0"} if item["Key"] == key else item

    monkeypatch.setattr(fetch, "list_objects", unstorable)
    if order == "copy last":
        reading.ingest("cdi_consents")
    reading.deliver("cdi_consents", TODAY, "changes.jsonl.part", lines(revocation()))
    reading.ingest("cdi_consents")
    assert read() == {OTHER}


# A key of the partner's own, without which no one reads the object.
LOCKED = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b"k" * 32}


@pytest.mark.parametrize("feed", ["cdi_consents", others_of_the_partner()[0]])
@pytest.mark.parametrize("name", ["latest/a.jsonl", f"{LONG_AGO}/a.jsonl.part"])
@pytest.mark.parametrize("way", ["removed", "locked"])
def test_the_next_delivery_has_its_turn_when_what_is_searched_for_consents_cannot_be_read(way, name, feed, reading):
    """Refused by its date, it was searched for consents. That failed, for ever, and stopped its feed, revocations too."""
    place = {"Bucket": drop_of(reading), "Key": get_contract(feed).drop_prefix + name}
    reading.s3.put_object(**place, Body=lines(revocation()), **(LOCKED if way == "locked" else {}))
    if way == "removed":
        fetch.run(feed)
        reading.s3.delete_object(**place)
    for _ in range(2):
        reading.ingest(feed)
    reading.deliver("cdi_consents", TODAY, "revoked.jsonl", lines(revocation()))
    reading.ingest("cdi_consents")
    assert read() == {OTHER}
    told = [
        m for (m,) in reading.rows("select message from ops.alert where kind = 'rejected' and feed = 'cdi_consents'")
    ]
    is_lost = feed == "cdi_consents" and (name.startswith("latest") or way == "locked")
    assert sum("ask the partner which consents it contained" in message for message in told) == is_lost


def test_a_copy_of_a_refused_delivery_suspends_nothing_more(reading):
    """The refused one was read whole, and a person has decided: its copy says nothing new."""
    reading.deliver("cdi_consents", "latest", "changes.jsonl", lines(revocation()))
    reading.ingest("cdi_consents")
    consent.lift([ID], None, "asked the partner", "mei")
    reading.deliver("cdi_consents", TODAY, "changes.jsonl.part", lines(revocation()))
    reading.ingest("cdi_consents")
    assert consent.suspended() == []
    assert read() == {LOST, OTHER}


def test_a_revocation_gets_through_under_the_name_of_an_empty_folder(reading):
    """Tools put empty objects there. One with content was passed over: not read, not told, and never deleted."""
    key = reading.deliver("cdi_consents", TODAY, "revocations_$folder$", lines(revocation()))
    reading.ingest("cdi_consents")
    assert read() == {OTHER}
    retention.run(TODAY + timedelta(days=get_contract("cdi_consents").retention_days + 1), allow_mass_delete=True)
    found = reading.s3.list_objects_v2(Bucket=reading.environment["SAMPAN_DROP_BUCKET"], Prefix=key)
    assert found["KeyCount"] == 0


def test_the_owner_is_told_when_a_file_was_overwritten_before_anyone_read_it(reading):
    """What fetch saw is gone when land comes: no one knows whether it was a revocation."""
    reading.deliver("cdi_consents", TODAY, "changes.jsonl", lines(revocation()))
    fetch.run("cdi_consents")
    reading.deliver("cdi_consents", TODAY, "changes.jsonl", lines(*SOUND))
    reading.ingest("cdi_consents")
    ((message,),) = reading.rows("select message from ops.alert where kind = 'rejected'")
    assert "changes.jsonl was overwritten before it was read" in message
    assert "ask the partner which consents it contained" in message


SPELT = (
    "CS\u20130000000001", "cs/0000000001", "CS(0000000001)", "\u0421\u04050000000001", "CS&#48;000000001", "CS\\t0000000001",
    "CS0000&nbsp;000001", "%43%530000000001", "CS 00,000,000,01", "CS" + "\u0660" * 9 + "\u0661", "C\u200bS0000000001",
    "CSOOOOOOOOO1", "CS000000000l", "cso00000000I", "C50000000001", "0000000001", "CS\u25000000000001", "CS0000000001is",
)  # fmt: skip


def test_a_consent_id_is_read_in_any_script_with_any_marks_and_in_codes():
    read_off = {spelling: consent.consent_ids(json.dumps({"id": spelling}, ensure_ascii=False)) for spelling in SPELT}
    assert read_off == {spelling: {ID} for spelling in SPELT}
    others = "CS00000000011 CS000000001 ACS 12 00000000011 A0000000001 2026-11-30 09:00:00 90000001"
    assert consent.consent_ids(others) == set()


def test_the_owner_is_told_when_no_consent_can_be_read_off_what_was_lost(reading):
    reading.deliver("cdi_consents", TODAY, "short.jsonl", lines(revocation(consentId="CS1"), *SOUND))
    reading.deliver("cdi_consents", TODAY, "noise.jsonl", b"\x89PNG and no number")
    reading.deliver("cdi_consents", TODAY, "long.jsonl", lines(revocation(consentId=f"{ID}1")))
    reading.ingest("cdi_consents")
    messages = " ".join(m for (m,) in reading.rows("select message from ops.alert where kind = 'rejected'"))
    assert "could be read off 1 of the rows: ask the partner" in messages
    assert "No consent id could be read off it" in messages
    assert read() == {LOST, OTHER}


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress, zipped], ids=["bzip2", "xz", "zip"])
def test_the_owner_is_told_that_a_file_could_not_be_read_when_it_is_packed_in_another_way(pack, reading):
    """As text such a file says nothing: that does not mean that nothing is in it."""
    reading.deliver("cdi_consents", TODAY, "packed.jsonl", pack(lines(revocation())))
    reading.ingest("cdi_consents")
    messages = " ".join(m for (m,) in reading.rows("select message from ops.alert where kind = 'rejected'"))
    assert "It could not be read to its end: ask the partner which consents it contained" in messages


def test_a_revocation_among_unknown_columns_gets_through(reading):
    reading.deliver("cdi_consents", TODAY, "more.jsonl", lines(revocation(reason="moved to another bank")))
    reading.ingest("cdi_consents")
    assert read() == {OTHER}
    assert "live_scopes: none" in reading.cli("consent", "show", ID).stdout
    assert reading.rows("select consent_id from ops.consent_suspension") == []


def test_the_owner_is_told_of_news_in_a_key_that_the_contract_does_not_know(reading):
    """`revokedOn` of a consent that is granted was noted, and no one was told: it may be how the partner says it now."""
    reading.deliver("cdi_consents", TODAY, "more.jsonl", lines(change(LOST, "renewed", TODAY, revokedOn=str(TODAY))))
    reading.ingest("cdi_consents")
    ((message,),) = reading.rows("select message from ops.alert where kind = 'drift'")
    assert "revokedOn" in message


def test_the_bank_stops_reading_when_a_step_dies_of_a_fault_of_its_own(reading, monkeypatch):
    def fails(*_: Any) -> None:
        raise RuntimeError("dies")

    reading.deliver("cdi_consents", TODAY, "changes.jsonl", lines(revocation(), change(OTHER, "renewed", TODAY)))
    with monkeypatch.context() as patch:
        patch.setattr(publish, "_attach", fails)
        with pytest.raises(RuntimeError):
            reading.ingest("cdi_consents")
    assert read() == set()
    reading.ingest("cdi_consents")
    assert read() == {OTHER}


# --- how a suspension ends ---------------------------------------------------------------------------------------------


def test_a_person_lifts_a_suspension_with_a_reason(reading):
    reading.deliver("cdi_consents", TODAY, "a.jsonl", lines(change(LOST, "renewed", TODAY, channel="x" * 41), *SOUND))
    reading.ingest("cdi_consents")
    assert read() == {OTHER}
    assert "give a reason" in reading.cli("consent", "lift", ID).stderr
    assert read() == {OTHER}
    lifted = reading.cli("consent", "lift", ID, "--reason", "the bank confirmed that it was a renewal")
    assert "Lifted the suspension of 1 consents." in lifted.stdout, lifted.stderr
    assert read() == {LOST, OTHER}
    again = reading.cli("consent", "lift", ID, "--reason", "twice")
    assert (again.returncode, "consent.not_suspended" in again.stderr) == (1, True)


def test_lifting_does_not_revive_what_was_revoked(reading):
    reading.deliver("cdi_consents", TODAY, "a.jsonl", lines(revocation(channel="x" * 41), *SOUND))
    reading.ingest("cdi_consents")
    consent.revoke(ID, "the owner rang", "steward")
    assert consent.lift([ID], None, "revoked by hand", "steward") == 1
    assert read() == {OTHER}


def test_all_that_was_read_off_a_batch_is_lifted_at_once(reading):
    reading.deliver(
        "cdi_consents", TODAY, "a.jsonl", lines(*(change(n, "renewed", TODAY, purpose="x") for n in (1, 2)))
    )
    reading.ingest("cdi_consents")
    assert read() == set()
    number = reading.batch("cdi_consents")["batch_id"]
    done = reading.cli("consent", "lift", "--batch", str(number), "--reason", "delivered again, whole")
    assert done.returncode == 0, done.stderr
    assert read() == {LOST, OTHER}


def test_a_suspension_ends_when_what_was_held_is_published_as_it_came(reading):
    """What got through in the end speaks for itself: one of the two was revoked, the other was renewed."""
    reading.deliver(
        "cdi_consents", TODAY, "a.jsonl",
        lines(revocation(), change(OTHER, "renewed", TODAY), *(change(n, purpose="x") for n in range(300, 303))),
    )  # fmt: skip
    reading.ingest("cdi_consents")
    assert read() == set()
    assert reading.cli("gate", "cdi_consents", "--date", str(TODAY), "--accept", "agreed by phone").returncode == 0
    reading.ingest("cdi_consents")
    assert read() == {OTHER}
    # The rows in quarantine stay suspended.
    assert {row[0] for row in consent.suspended()} == {f"CS{n:010}" for n in range(300, 303)}


def test_a_suspension_ends_when_the_row_is_corrected_and_stays_when_it_is_discarded(reading, tmp_path):
    bad = [change(n, "renewed", TODAY, channel="x" * 41) for n in (LOST, OTHER)]
    reading.deliver("cdi_consents", TODAY, "a.jsonl", lines(*bad, *SOUND))
    reading.ingest("cdi_consents")
    ids = reading.rows("select quarantine_id from quarantine.record order by line")
    file = tmp_path / "corrected.csv"
    file.write_text(f"_quarantine_id,channel\n{ids[0][0]},branch\n")
    replayed = reading.cli("quarantine", "replay", "cdi_consents", "--file", str(file))
    assert replayed.returncode == 0, replayed.stderr
    assert read() == {LOST}
    discarded = reading.cli("quarantine", "discard", "cdi_consents", str(ids[1][0]), "--reason", "not needed")
    assert discarded.returncode == 0, discarded.stderr
    reading.deliver("cdi_consents", TODAY, "b.jsonl", lines(*SOUND, change(OTHER, "renewed", TODAY)))
    reading.ingest("cdi_consents")
    assert read() == {LOST}


def test_a_suspension_is_written_with_the_state_that_it_follows_from_or_not_at_all(reading, monkeypatch):
    def fails(*_: Any) -> None:
        raise psycopg.errors.InternalError("dies")

    reading.deliver("cdi_consents", TODAY, "a.jsonl", lines(revocation(channel="x" * 41), *SOUND))
    with monkeypatch.context() as patch:
        patch.setattr(consent, "_told", fails)
        with pytest.raises(psycopg.errors.InternalError):
            reading.ingest("cdi_consents")
    assert reading.rows("select count(*) from quarantine.record") == [(0,)]
    reading.ingest("cdi_consents")
    assert read() == {OTHER}


# --- other feeds ------------------------------------------------------------------------------------------------------

# Statuses that end something: who does not hear of one goes on as if it still were.
ENDS = re.compile(r"ceased|dissolved|terminated|withdrawn|revoked|cancelled|lapsed|suspended")
ENDING = sorted(
    contract.feed
    for contract in all_contracts().values()
    if any(ENDS.fullmatch(choice) for column in contract.columns for choice in column.enum)
)


def test_the_feeds_that_can_end_something_are_those_whose_contract_alerts():
    assert sorted(feed for feed, contract in all_contracts().items() if contract.alert_on_rejected) == ENDING
    assert len(ENDING) >= 6
    # Nor is an unknown column passed over: it may be how the partner says that something ended.
    assert {all_contracts()[feed].drift for feed in ENDING} <= {"fail", "note"}


def unreadable(sampan: Sampan, feed: str, day: date) -> None:
    sampan.deliver(feed, day, "noise.bin", b"\x00\xff nothing of this kind")


def refused(sampan: Sampan, feed: str, day: date) -> None:
    sampan.deliver(feed, "latest", "a.bin", b"x")


@pytest.mark.parametrize("loses", [unreadable, refused])
@pytest.mark.parametrize("feed", ENDING)
def test_the_owner_is_told_when_a_delivery_that_may_end_something_is_lost(
    feed: str, loses: Callable[[Sampan, str, date], None], sampan: Sampan
):
    loses(sampan, feed, LONG_AGO)
    sampan.ingest(feed)
    alerts = sampan.rows("select message from ops.alert where kind = 'rejected' and feed = %s", feed)
    assert [get_contract(feed).contact in message for (message,) in alerts] in ([True], [True, True])


def test_the_owner_is_told_when_a_row_that_may_end_something_is_quarantined(sampan):
    heading = ",".join(column.source_name for column in get_contract("quality_marks").columns)
    row = "QTS,QTS-{:05},{} 09:00:00,{},HKTB,company,Good Name,,,,90000001,2026-01-01,"
    rows = [row.format(n, LONG_AGO, "valid" if n else "Withdrawn") for n in range(30)]
    sampan.deliver("quality_marks", TODAY, "marks.csv", "\n".join([heading, *rows, ""]).encode())
    sampan.ingest("quality_marks")
    assert sampan.batch("quality_marks")["state"] == "published"
    ((message,),) = sampan.rows("select message from ops.alert where kind = 'rejected'")
    assert "1 of 30 rows of batch" in message
