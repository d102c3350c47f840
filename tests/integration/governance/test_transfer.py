"""What leaves the platform and what does not, and the register of it. All values are synthetic."""

from __future__ import annotations

import csv
import hashlib
import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sampan import consent, failpoints
from sampan.calendar import today
from sampan.errors import PermanentFailure
from sampan.governance import transfer
from sampan.settings import settings

from tests.integration.marts.test_release import release_one
from tests.integration.test_consent import NUMBERS, allowed, change, changes, deliver, make_release

TODAY = today()
CITIES = {
    "Hong Kong", "Guangzhou", "Shenzhen", "Zhuhai", "Foshan", "Huizhou", "Dongguan", "Zhongshan", "Jiangmen", "Zhaoqing",
}  # fmt: skip
RECIPIENT, TABLE, FEATURES = "Shenzhen Credit Service", "mart_published_traders", "mart_credit_features"
SOUND = transfer.TransferAgreement(
    "GBASC-2026-001", RECIPIENT, "Shenzhen", "B001", "credit assessment", [TABLE, FEATURES],
    TODAY - timedelta(days=30), TODAY + timedelta(days=300), "PIA-7", TODAY - timedelta(days=40), TODAY - timedelta(days=25),
)  # fmt: skip
WRONG = {
    "another recipient": ({"recipient": "Another"}, "the agreement is with Another"),
    "a mart that is not covered": (
        {"marts": ["mart_published_exports"]},
        "the agreement covers only mart_published_exports",
    ),
    "a city outside": ({"recipient_city": "Shanghai"}, "Shanghai is neither Hong Kong nor"),
    "Macao, which is not a party": ({"recipient_city": "Macao"}, "Macao is neither Hong Kong nor"),
    "not yet in effect": ({"valid_from": TODAY + timedelta(days=1)}, "takes effect on"),
    "ended": ({"valid_to": TODAY - timedelta(days=1)}, "the agreement ended on"),
    "no assessment": ({"assessment_no": None, "assessed_on": None}, "no impact assessment was made"),
    "an assessment to come": ({"assessed_on": TODAY + timedelta(days=1)}, "no impact assessment was made"),
    "not filed in time": ({"filed_on": None}, "had to be filed by"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_share_is_refused_when_its_contract_is_not_valid(case, sampan, tmp_path):
    changed, why = WRONG[case]
    release_one(columns={TABLE: "%(no)s::bigint as release_no, g as id, 1 as a, 2 as b"})
    transfer.register_agreement(replace(SOUND, **changed), "officer")
    with pytest.raises(PermanentFailure, match=why):
        transfer.share(TABLE, RECIPIENT, SOUND.contract_no, str(tmp_path / "out.csv"), "officer")
    assert list(tmp_path.glob("*.csv*")) == []
    assert transfer.register() == []


def test_all_that_is_wrong_is_said_at_once():
    wrong = replace(SOUND, recipient_city="Macao", assessed_on=None, valid_to=TODAY - timedelta(days=1))
    assert len(transfer.objections(wrong, TABLE, "Another", CITIES, TODAY)) == 4
    assert transfer.objections(SOUND, TABLE, RECIPIENT, CITIES, TODAY) == []


def test_a_contract_has_ten_business_days_to_be_filed():
    unfiled = replace(SOUND, filed_on=None)
    days = [SOUND.valid_from + timedelta(days=number) for number in range(40)]
    last = max(day for day in days if not transfer.objections(unfiled, TABLE, RECIPIENT, CITIES, day))
    assert timedelta(days=12) <= last - SOUND.valid_from <= timedelta(days=20)


def test_a_contract_is_not_filed_before_the_day_on_which_it_is():
    to_come = replace(SOUND, filed_on=TODAY + timedelta(days=1))
    (why,) = transfer.objections(to_come, TABLE, RECIPIENT, CITIES, TODAY)
    # The day by law, even if the agreement has another day.
    assert why == transfer.objections(replace(SOUND, filed_on=None), TABLE, RECIPIENT, CITIES, TODAY)[0]
    assert transfer.objections(to_come, TABLE, RECIPIENT, CITIES, TODAY + timedelta(days=1)) == []
    late = replace(SOUND, filed_on=TODAY)
    assert transfer.objections(late, TABLE, RECIPIENT, CITIES, TODAY) == []
    assert transfer.objections(late, TABLE, RECIPIENT, CITIES, TODAY - timedelta(days=1)) == [why]


def test_a_contract_is_filed_once_and_not_ahead(sampan, tmp_path):
    release_one(columns={TABLE: "%(no)s::bigint as release_no, g as id, 1 as a, 2 as b"})
    number, tomorrow = SOUND.contract_no, TODAY + timedelta(days=1)
    for refused in (
        lambda: transfer.register_agreement(replace(SOUND, filed_on=tomorrow), "officer"),
        lambda: transfer.record_filing(number, tomorrow),
    ):
        with pytest.raises(PermanentFailure, match="is in the future"):
            refused()
    with pytest.raises(PermanentFailure, match="is not registered"):
        transfer.record_filing(number, TODAY)
    transfer.register_agreement(replace(SOUND, filed_on=None), "officer")
    with pytest.raises(PermanentFailure, match="had to be filed by"):
        transfer.share(TABLE, RECIPIENT, number, str(tmp_path / "out.csv"), "officer")
    # As it could be entered once.
    sampan.rows("update ops.transfer_contract set filed_on = %s returning 1", tomorrow)
    assert transfer.record_filing(number, TODAY)
    assert not transfer.record_filing(number, TODAY)
    with pytest.raises(PermanentFailure, match=f"was filed on {TODAY}; this date cannot be changed"):
        transfer.record_filing(number, TODAY - timedelta(days=1))
    assert transfer.share(TABLE, RECIPIENT, number, str(tmp_path / "out.csv"), "officer")["rows"] == 50


def test_the_cities_are_hong_kong_and_the_nine_of_the_mainland(sampan):
    assert {row[0] for row in sampan.rows("select city from ops.gba_city")} == CITIES


@pytest.mark.parametrize("mart", ["mart_open", "mart_sme_360", "dim_sme", "nothing"])
def test_a_mart_of_enterprises_does_not_leave_under_any_contract(mart, sampan, tmp_path):
    release_one()
    transfer.register_agreement(replace(SOUND, marts=[mart]), "officer")
    with pytest.raises(PermanentFailure, match="only published tables and credit features can be shared"):
        transfer.share(mart, RECIPIENT, SOUND.contract_no, str(tmp_path / "out.csv"), "officer")


def test_a_shared_file_is_its_owner_s_alone_and_computes_nothing_in_a_spreadsheet(sampan, tmp_path):
    """Kind of fault: an exported file is readable for every user, and a name in it is a formula to a spreadsheet."""
    names = "(array['=HYPERLINK(\"http://x\")', '@x', '+1-1', '-5', 'Sound Ltd', '＝1+1'])[g]"
    release_one(columns={TABLE: f"%(no)s::bigint as release_no, g as id, -g::numeric as a, {names}::text as name_en"})
    transfer.register_agreement(SOUND, "officer")
    file, left_over = tmp_path / "out.csv", tmp_path / "out.csv.part"
    left_over.symlink_to(tmp_path / "elsewhere")
    transfer.share(TABLE, RECIPIENT, SOUND.contract_no, str(file), "officer")
    lines = {int(line["id"]): line for line in csv.DictReader(file.open())}
    assert [lines[number]["name_en"] for number in range(1, 7)] == [
        "'=HYPERLINK(\"http://x\")", "'@x", "'+1-1", "-5", "Sound Ltd", "'＝1+1"
    ]  # fmt: skip
    assert lines[1]["a"] == "-1"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not (tmp_path / "elsewhere").exists()
    assert not left_over.is_symlink()


def test_a_share_without_a_contract_is_refused(sampan, tmp_path):
    with pytest.raises(PermanentFailure, match="the agreement is not registered"):
        transfer.share(TABLE, RECIPIENT, "none", str(tmp_path / "out.csv"), "officer")
    transfer.register_agreement(SOUND, "officer")
    with pytest.raises(PermanentFailure, match="has no mart mart_published_traders"):
        transfer.share(TABLE, RECIPIENT, SOUND.contract_no, str(tmp_path / "out.csv"), "officer")
    with pytest.raises(PermanentFailure, match="register changes as a new agreement"):
        transfer.register_agreement(replace(SOUND, purpose="another"), "officer")


def rows_of(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(body.decode().splitlines()))


def test_credit_features_leave_for_the_consents_that_are_live_now(sampan, tmp_path):
    deliver(sampan, changes())
    number = make_release()
    transfer.register_agreement(SOUND, "officer")
    gone = f"CS{NUMBERS['live']:010}"
    consent.revoke(gone, "asked", "steward")
    file = tmp_path / "out.csv"
    done = transfer.share(FEATURES, RECIPIENT, SOUND.contract_no, str(file), "officer")
    wanted = {row for row in allowed("B001") if row[1] != gone}
    assert {(row["bank_id"], row["consent_id"], row["consent_scope"]) for row in rows_of(file.read_bytes())} == wanted
    ((rows, sha, consents, release_no, city, in_full),) = sampan.rows(
        "select rows, content_sha256, consent_ids, release_no, recipient_city, done_at is not null from ops.transfer"
    )
    assert (rows, sha) == (len(wanted), hashlib.sha256(file.read_bytes()).hexdigest())
    assert (done["rows"], done["content_sha256"]) == (rows, sha)
    assert consents == sorted({row[1] for row in wanted})
    assert (release_no, city, in_full) == (number, "Shenzhen", True)
    with pytest.raises(PermanentFailure, match="the file already exists"):
        transfer.share(FEATURES, RECIPIENT, SOUND.contract_no, str(file), "officer")


@pytest.mark.parametrize("corrected", [{"dataOwnerBrn": "90000555"}, {"dataProviderId": "DP02"}])
def test_credit_features_do_not_leave_when_the_feed_corrects_whose_they_are(corrected, sampan, tmp_path):
    deliver(sampan, [change(NUMBERS["live"])], TODAY - timedelta(days=1))
    make_release()
    transfer.register_agreement(SOUND, "officer")
    before = transfer.share(FEATURES, RECIPIENT, SOUND.contract_no, str(tmp_path / "before.csv"), "officer")
    deliver(sampan, [change(NUMBERS["live"], **corrected)])
    after = transfer.share(FEATURES, RECIPIENT, SOUND.contract_no, str(tmp_path / "after.csv"), "officer")
    assert (before["rows"], after["rows"]) == (2, 0)
    assert rows_of((tmp_path / "after.csv").read_bytes()) == []


def test_credit_features_do_not_leave_of_a_release_that_does_not_say_whose_they_are(sampan, tmp_path):
    deliver(sampan, changes())
    number = make_release()
    transfer.register_agreement(SOUND, "officer")
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute(f"alter table consented_{number}.mart_credit_features drop column consent_brn cascade")
    with pytest.raises(PermanentFailure, match="make a new release"):
        transfer.share(FEATURES, RECIPIENT, SOUND.contract_no, str(tmp_path / "out.csv"), "officer")
    assert (list(tmp_path.glob("*.csv*")), transfer.register()) == ([], [])


def test_credit_features_do_not_leave_under_a_contract_without_a_bank(sampan, tmp_path):
    transfer.register_agreement(replace(SOUND, bank_id=None), "officer")
    with pytest.raises(PermanentFailure, match="names no bank"):
        transfer.share(FEATURES, RECIPIENT, SOUND.contract_no, str(tmp_path / "out.csv"), "officer")


def test_a_published_table_goes_to_an_object_that_carries_its_hash(sampan):
    release_one(columns={TABLE: "%(no)s::bigint as release_no, g as id, 1 as a, 2 as b"})
    transfer.register_agreement(SOUND, "officer")
    target = f"s3://{settings().landing_bucket}/shared/traders.csv"
    done = transfer.share(TABLE, RECIPIENT, SOUND.contract_no, target, "officer")
    found = sampan.s3.get_object(Bucket=settings().landing_bucket, Key="shared/traders.csv")
    body = found["Body"].read()
    assert hashlib.sha256(body).hexdigest() == done["content_sha256"] == found["Metadata"]["sha256"]
    assert len(rows_of(body)) == done["rows"] == 50


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("{folder}/missing/out.csv", "does not exist"),
        ("{folder}/file/out.csv", "does not exist"),
        ("{folder}", "already exists"),
        ("s3://no-such-bucket/out.csv", "does not exist"),
        ("s3://NO/out.csv", "bucket"),
        ("s3:///out.csv", "is not a valid bucket name"),
        ("s3://drop-of-tests", "expected s3://bucket/key"),
    ],
)
def test_nothing_is_in_the_register_when_there_is_nowhere_to_write_to(target, why, sampan, tmp_path):
    release_one(columns={TABLE: "%(no)s::bigint as release_no, g as id, 1 as a, 2 as b"})
    transfer.register_agreement(SOUND, "officer")
    (tmp_path / "file").touch()
    with pytest.raises(PermanentFailure, match=why):
        transfer.share(TABLE, RECIPIENT, SOUND.contract_no, target.format(folder=tmp_path), "officer")
    assert transfer.register() == []


def test_a_share_says_what_the_disk_says_when_it_cannot_be_written(sampan, tmp_path):
    release_one(columns={TABLE: "%(no)s::bigint as release_no, g as id, 1 as a, 2 as b"})
    transfer.register_agreement(SOUND, "officer")
    # Not too long itself, but too long as long as it is written.
    with pytest.raises(PermanentFailure, match="File name too long"):
        transfer.share(TABLE, RECIPIENT, SOUND.contract_no, str(tmp_path / ("x" * 252)), "officer")
    assert sampan.rows("select rows, done_at from ops.transfer") == [(50, None)]


def test_what_may_have_left_is_in_the_register_when_the_share_died(sampan, tmp_path, monkeypatch):
    release_one(columns={TABLE: "%(no)s::bigint as release_no, g as id, 1 as a, 2 as b"})
    transfer.register_agreement(SOUND, "officer")

    def dies(place: str) -> None:
        if place == "transfer.before_leaving":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "hit", dies)
        with pytest.raises(KeyboardInterrupt):
            transfer.share(TABLE, RECIPIENT, SOUND.contract_no, str(tmp_path / "out.csv"), "officer")
    assert sampan.rows("select rows, done_at from ops.transfer") == [(50, None)]


@pytest.mark.parametrize(
    "statement",
    ["delete from ops.transfer", "update ops.transfer set rows = 0", "update ops.transfer set done_at = null"],
)
def test_the_register_is_not_changed(statement, sampan, tmp_path):
    release_one(columns={TABLE: "%(no)s::bigint as release_no, g as id, 1 as a, 2 as b"})
    transfer.register_agreement(SOUND, "officer")
    transfer.share(TABLE, RECIPIENT, SOUND.contract_no, str(tmp_path / "out.csv"), "officer")
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
        sampan.rows(statement + " returning 1")


def test_the_command_enters_a_contract_shares_and_lists(sampan, tmp_path):
    release_one(columns={TABLE: "%(no)s::bigint as release_no, g as id, 1 as a, 2 as b"})
    options = ("--recipient", RECIPIENT, "--city", "Shenzhen", "--purpose", "statistics", "--mart", TABLE)
    days = ("--from", str(SOUND.valid_from), "--until", str(SOUND.valid_to))
    assessment = ("--assessment", "PIA-7", "--assessed-on", str(SOUND.assessed_on))
    entered = sampan.cli("transfer", "agreement", "GBASC-9", *options, *days, *assessment)
    assert "GBASC-9 registered" in entered.stdout, entered.stderr
    filing = ("transfer", "record-filing", "GBASC-9", "--on")
    assert f"filed on {SOUND.filed_on}" in sampan.cli(*filing, str(SOUND.filed_on)).stdout
    refused = sampan.cli(*filing, str(TODAY))
    assert (refused.returncode, "this date cannot be changed" in refused.stderr) == (1, True)
    file = Path(tmp_path) / "out.csv"
    command = ("share", TABLE, "--agreement", "GBASC-9", "--into", str(file), "--to")
    refused = sampan.cli(*command, "Another")
    assert (refused.returncode, f"the agreement is with {RECIPIENT}" in refused.stderr) == (1, True)
    assert "50 rows" in sampan.cli(*command, RECIPIENT).stdout
    assert "GBASC-9" in sampan.cli("transfer", "list").stdout
