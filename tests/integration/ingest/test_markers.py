"""Objects beside the data.

Kind of fault: what programs leave beside a delivery (markers, checksums, unfinished uploads, system files) is taken for
one, is held for ever, and its partner gets word of a fault that does not exist.
"""

from __future__ import annotations

import gzip
import hashlib

import pytest
from sampan.contracts.registry import get_contract
from sampan.ingest import fetch, freshness
from sampan.ingest.markers import FOLDER, marker, sums

from tests.factory import DAY, encode, rows
from tests.integration.ingest.deliveries import CUSTOMS, FILES, name_of

BESIDE = [
    "_SUCCESS", "_committed_712", "_metadata", ".part-00000.csv.gz.crc", "part-00000.csv.gz.md5", "SHA256SUMS",
    "delivery.sha256", ".DS_Store", "Thumbs.db", "desktop.ini", "~$Policies.xlsx", ".~lock.Policies.xlsx#",
    "._delivery.csv.gz", ".delivery.csv.gz.Xa81", "delivery.csv.gz.tmp", "delivery.csv.gz.part", "Delivery.CSV.filepart",
    "delivery.csv.bak", "delivery.csv~", "delivery.csv.gz.asc", "delivery.done", "delivery.csv.gz.ok",
    "_temporary/0/part-00000.csv.gz", "__MACOSX/._delivery.csv",
]  # fmt: skip
DATA = [
    "part-00000.csv.gz", "_orders.csv.gz", "delivery.CSV.GZ", "report_partial.csv.gz", "md5.csv.gz", "SUCCESS.csv.gz",
    "read.me", "delivery.json", "export (1).csv.gz", "done", "a.b.c", "..", "../../../../etc/passwd",
    "a/../../b.csv.gz", "./b.csv.gz",
]  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_a_name_that_a_program_gives_is_no_delivery(name):
    assert marker(f"{DAY}/{name}", 10, "csv.gz") is not None


@pytest.mark.parametrize("name", DATA)
def test_any_other_name_is_a_delivery(name):
    assert marker(f"{DAY}/{name}", 10, "csv.gz") is None


@pytest.mark.parametrize("name", ["", "folder/", "2026_$folder$"])
def test_a_folder_is_empty_and_with_content_it_is_a_delivery(name):
    assert [marker(f"{DAY}/{name}", size, "csv.gz") for size in (0, 1)] == [FOLDER, None]


def test_a_signal_file_that_holds_data_is_a_delivery():
    assert marker(f"{DAY}/orders.ok", 5000, "csv.gz") is None


@pytest.mark.parametrize("feed", FILES)
def test_ingest_ignores_what_is_beside_the_data(feed, sampan, caplog):
    contract = get_contract(feed)
    for name in BESIDE:
        sampan.deliver(feed, DAY, name, b"")
    sampan.deliver(feed, DAY, name_of(feed), encode(contract, rows(feed, 5)))
    caplog.set_level("INFO")
    assert fetch.run(feed) == {"seen": 1}
    sampan.ingest(feed)
    assert sampan.rows("select state, rows_published from ops.batch") == [("published", 5)]
    assert sampan.rows("select kind, message from ops.alert") == []
    assert sampan.rows("select * from ops.open_problem") == []
    (day,) = (day for day in freshness.days(feed) if day["business_date"] <= DAY <= day["last_date"])
    assert (day["state"], day["deliveries"]) == ("arrived", 1)
    # Said once, however often the prefix is listed.
    assert sum("_SUCCESS is a marker of a job, not a delivery" in line for line in caplog.messages) == 1


def test_markers_alone_are_no_delivery_of_the_day(sampan):
    sampan.deliver(CUSTOMS, DAY, "_SUCCESS", b"")
    sampan.ingest(CUSTOMS)
    assert sampan.rows("select * from ops.batch") == []
    assert sampan.rows("select problem ->> 'rule' from ops.delivery") == [("delivery.marker",)]
    assert freshness.days(CUSTOMS) == [] or all(day["deliveries"] == 0 for day in freshness.days(CUSTOMS))


BODY = gzip.compress(b"synthetic")


def checksum(algorithm: str, body: bytes = BODY) -> str:
    return hashlib.new(algorithm, body).hexdigest()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.gz.md5", checksum("md5")),
        ("a.gz.md5", f"{checksum('md5').upper()} *a.gz\r\n"),
        ("a.gz.sha256", f"{checksum('sha256')}  out/a.gz\n"),
        ("sums.sha512", f"SHA512 (a.gz) = {checksum('sha512')}\n"),
    ],
    ids=["alone", "gnu", "folder", "bsd"],
)
def test_a_checksum_is_read_in_every_usual_form(name, text):
    (algorithm,) = (a for a in ("md5", "sha256", "sha512") if a in name)
    assert sums(name, text) == {"a.gz": checksum(algorithm)}


def test_text_that_is_no_checksum_names_no_file():
    assert sums("a.gz.md5", f"{checksum('sha256')}  a.gz\nhello a.gz\n") == {}


def test_a_checksum_may_be_called_as_the_file_without_its_ending(sampan):
    sampan.deliver(CUSTOMS, DAY, "monday.csv.gz", encode(get_contract(CUSTOMS), rows(CUSTOMS, 5)))
    sampan.deliver(CUSTOMS, DAY, "monday.md5", checksum("md5").encode())
    fetch.run(CUSTOMS)
    ((message,),) = sampan.rows("select message from ops.alert")
    assert "monday.csv.gz: its content" in message


@pytest.mark.parametrize("first", ["file", "checksum"])
@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_the_owner_hears_when_a_file_does_not_match_its_checksum(algorithm, first, sampan):
    body, name = encode(get_contract(CUSTOMS), rows(CUSTOMS, 5)), name_of(CUSTOMS)
    beside = (f"{name}.{algorithm}", f"{checksum(algorithm, body + b'more')}  {name}\n".encode())
    parts = [(name, body), beside]
    for part in parts if first == "file" else reversed(parts):
        sampan.deliver(CUSTOMS, DAY, *part)
        fetch.run(CUSTOMS)
    fetch.run(CUSTOMS)
    ((kind, message),) = sampan.rows("select kind, message from ops.alert")
    assert kind == "checksum"
    assert f"{name}: its content of {DAY} does not match the checksum in {name}.{algorithm}: " in message
    assert f"{algorithm} {checksum(algorithm, body)}, expected {checksum(algorithm, body + b'more')}" in message


def test_nobody_hears_when_a_file_matches_its_checksum(sampan):
    body, name = encode(get_contract(CUSTOMS), rows(CUSTOMS, 5)), name_of(CUSTOMS)
    sampan.deliver(CUSTOMS, DAY, name, body)
    sampan.deliver(CUSTOMS, DAY, "MD5SUMS", f"{checksum('md5', body)}  {name}\n".encode())
    sampan.ingest(CUSTOMS)
    assert sampan.rows("select message from ops.alert") == []
    assert sampan.batch(CUSTOMS)["rows_published"] == 5


def test_a_checksum_of_a_name_with_a_personal_number_shows_none(sampan):
    name = f"declarations A123456(3).{get_contract(CUSTOMS).source.extension}"
    sampan.deliver(CUSTOMS, DAY, name, encode(get_contract(CUSTOMS), rows(CUSTOMS, 5)))
    sampan.deliver(CUSTOMS, DAY, f"{name}.md5", f"{checksum('md5')}  {name}\n".encode())
    fetch.run(CUSTOMS)
    ((message,),) = sampan.rows("select message from ops.alert")
    problems = sampan.rows("select problem::text from ops.delivery where problem is not null")
    assert "does not match the checksum" in message
    assert "A123456" not in message + str(problems)
