"""Personal data is planted in every column of every feed and then looked for wherever the platform writes."""

from __future__ import annotations

import csv
import io
import json
import re
import secrets
import tempfile
import unicodedata
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sampan.calendar import today
from sampan.cli.app import app
from sampan.contracts.registry import all_contracts, get_contract
from sampan.database import connect
from sampan.errors import PermanentFailure
from sampan.governance import retention
from sampan.ingest import gate, lake, land, ledger, quarantine
from sampan.marts import build, release, steps
from sampan.monitoring import page
from sampan.settings import settings
from sampan.warehouse import schema as warehouse

from tests import factory
from tests.conftest import EXTERNAL_DSN
from tests.factory import DAY, FEEDS, Api, compress, encode, feeds, hkid, rows

FORMS = {
    "brackets": lambda letters, digits: hkid(letters, digits),
    "bare": lambda letters, digits: hkid(letters, digits, brackets=False),
    "lower case": lambda letters, digits: hkid(letters, digits).lower(),
    "full width": lambda letters, digits: hkid(letters, digits).replace("(", "\uff08").replace(")", "\uff09"),
    "in a sentence": lambda letters, digits: f"of {hkid(letters, digits)} by hand",
    "bare in a sentence": lambda letters, digits: f"of {hkid(letters, digits, brackets=False)} by hand",
    "wrong check digit": lambda letters, digits: f"{letters}{digits}({(int(hkid(letters, digits)[-2], 16) + 1) % 10})",
}


class Planter:
    """Gives out values that stand nowhere else, and remembers them."""

    def __init__(self, seed: int) -> None:
        self.next, self.needles = seed * 3000 + 300_000, []

    def hkid(self, form: str) -> str:
        self.next += 1
        self.needles.append(f"Q{self.next}")
        return FORMS[form]("Q", str(self.next))

    def secret(self, name: str) -> str:
        self.next += 1
        self.needles.append(f"ZQ{self.next}")
        return f"Chan {name} ZQ{self.next}"


def planted(feed: str, planter: Planter) -> list[dict[str, str | None]]:
    """A row for each column and form, and secrets in every column that is dropped."""
    contract = get_contract(feed)
    wanted = [(column, form) for column in contract.stored for form in FORMS]
    given = rows(feed, len(wanted) + 5)
    for row, (column, form) in zip(given, wanted, strict=False):
        row[column.name] = planter.hkid(form)
    for row in given:
        for column in contract.columns:
            if column.personal == "drop":
                row[column.name] = planter.secret(column.name)
    return given


def as_text(feed: str, given: list[dict[str, str | None]], planter: Planter) -> bytes:
    """The delivery with every value as text, so that anything can stand anywhere, and with lines that cannot be split."""
    contract = get_contract(feed)
    headings = [column.source_name for column in contract.columns]
    records = [[row[column.name] for column in contract.columns] for row in given]
    kinds = ["text"] * len(headings)
    if contract.source.format == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        out = io.BytesIO()
        arrays = [pa.array([record[place] for record in records], pa.string()) for place in range(len(headings))]
        pq.write_table(pa.table(arrays, names=headings), out)
        return out.getvalue()
    if contract.source.format == "xlsx":
        surplus = [[*record, *[None] * 3, planter.hkid("bare")] for record in records[:1]]
        return factory._xlsx(contract, headings, [*kinds, *["text"] * 4], [r + [None] * 4 for r in records] + surplus)
    if contract.source.format == "fixed":
        # Columns are too narrow to hold everything: a few sound records, and the others as lines that cannot be read.
        sound = factory._fixed(contract, headings, [column.type for column in contract.columns], records[-5:])
        lines = [" ".join(value or "" for value in record) for record in records[:-5]]
        broken = "".join(line + "\n" for line in lines).encode(contract.source.encoding, "replace")
        return compress(contract, sound + broken)
    if contract.source.format == "jsonl":
        lines = [factory.json_line(headings, kinds, record) for record in records]
        lines.append(
            lines[0][:-1] + f', "mobile": "{planter.secret("unknown key")}"}}' if contract.drift != "fail" else ""
        )
        lines += [f'{{"cut": "{planter.hkid("bare")}', json.dumps([planter.hkid("brackets")])]
    else:
        import csv

        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([headings, *records])
        lines = out.getvalue().splitlines()
        lines += [
            f"{lines[1]},{planter.hkid('bare')}",
            f'"never closed {planter.hkid("bare")},{planter.hkid("brackets")}',
        ]
    encoding = contract.source.encoding
    return compress(contract, "".join(line + "\n" for line in lines).encode(encoding, "replace"))


def everything(dsn: str) -> str:
    """Every row of every table and view of every schema, as text."""
    found = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for role in ("sampan_loader", "sampan_builder"):
            connection.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(role)))
        tables = connection.execute(
            "select nspname, relname from pg_class join pg_namespace n on n.oid = relnamespace"
            " where relkind in ('r', 'p', 'v', 'm') and nspname !~ '^(pg_|information_schema)' order by 1, 2"
        ).fetchall()
        assert len(tables) > 30
        for schema, table in tables:
            name = sql.SQL("{}.{}").format(sql.Identifier(schema), sql.Identifier(table))
            found += [row for (row,) in connection.execute(sql.SQL("select t::text from {} t").format(name))]
        found += [row for (row,) in connection.execute("select s::text from pg_stats s")]
    return "\n".join(found)


def in_the_lake(sampan, feed: str) -> str:
    """Every value of every object of a feed in the lake, and what else its files say."""
    assert lake.run(feed)["written"] > 0
    found = []
    for item in sampan.s3.list_objects_v2(Bucket="lake", Prefix=f"{feed}/")["Contents"]:
        body = sampan.s3.get_object(Bucket="lake", Key=item["Key"])
        parquet = pq.ParquetFile(io.BytesIO(body["Body"].read()))
        found += [item["Key"], str(body["Metadata"]), str(parquet.metadata.to_dict()), str(parquet.metadata.metadata)]
        found += [json.dumps(row, default=str, ensure_ascii=False) for row in parquet.read().to_pylist()]
    assert len(found) > 4
    return "\n".join(found)


def found_in(text: str | bytes, needles: list[str]) -> set[str]:
    """Which of the planted values stand in a text; all of them begin with a letter Q before six digits."""
    import re2

    body = text.encode("utf-8", "replace") if isinstance(text, str) else text
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    seen = {match.group().decode().upper() for match in re2.compile(rb"(?i)z?q[0-9]{6}", options).finditer(body)}
    return seen & set(needles)


@pytest.mark.parametrize("feed", FEEDS)
def test_no_personal_data_is_kept_anywhere_when_it_stands_in_any_column(feed, partner, caplog, capfd, monkeypatch):
    caplog.set_level("DEBUG")
    contract, planter = get_contract(feed), Planter(FEEDS.index(feed))
    monkeypatch.setattr(ledger, "get_contract", lambda name: replace(get_contract(name), budget=1.0))
    body = as_text(feed, planted(feed, planter), planter)
    partner.puts(feed, DAY, f"delivery.{contract.source.extension}", body)
    batch = partner.ingest(feed)
    assert batch["state"] == "published", batch["problem"]
    assert len(planter.needles) >= len(FORMS) * len(contract.stored)
    assert found_in(everything(settings().dsn("admin")), planter.needles) == set()
    assert found_in(in_the_lake(partner.sampan, feed), planter.needles) == set()
    shown = "".join(str(entry) for entry in quarantine.entries(feed)) + "".join(
        quarantine.export(contract, quarantine.entries(feed))
    )
    output = capfd.readouterr()
    assert found_in("\n".join([shown, caplog.text, output.out, output.err]), planter.needles) == set()
    if EXTERNAL_DSN is None:
        assert found_in(_files_of_the_server(), planter.needles) == set()


def _files_of_the_server() -> bytes:
    """Content of the server's data folder, its logs included, once all of it is on disk."""
    dsn = settings().dsn("admin")
    port = str(conninfo_to_dict(dsn)["port"])
    folders = [
        file.parent
        for place in (tempfile.gettempdir(), "/dev/shm")
        for file in Path(place).glob("sampan-postgres-*/data/postmaster.pid")
        if port in file.read_text().split("\n")
    ]
    assert len(folders) == 1
    name = sql.Identifier(f"checkpoint_{secrets.token_hex(4)}")
    with psycopg.connect(dsn, autocommit=True) as connection:
        # Copying a database file by file makes the server write out all that it holds.
        connection.execute(sql.SQL("create database {} strategy file_copy").format(name))
        connection.execute(sql.SQL("drop database {}").format(name))
        (database,) = connection.execute("select oid from pg_database where datname = current_database()").fetchone()
    folder = folders[0]
    files = [*(folder / "base" / str(database)).iterdir(), *(folder / "pg_wal").iterdir(), folder / "server.log"]
    assert len(files) > 300
    return b"".join(file.read_bytes() for file in [*files, *folder.glob("base/pgsql_tmp/*")] if file.is_file())


@pytest.mark.parametrize("feed", feeds(lambda c: any(col.expects_hkid for col in c.columns), least=5))
def test_an_hkid_becomes_one_pseudonym_when_it_is_written_in_either_form(feed, partner, monkeypatch):
    contract, given = get_contract(feed), rows(feed, 4)
    column = next(c for c in contract.columns if c.expects_hkid)
    given[0][column.name], given[1][column.name] = hkid("Q", "123456"), hkid("Q", "123456", brackets=False)
    given[2][column.name] = f" {hkid('Q', '123456').lower()} "
    monkeypatch.setattr(ledger, "get_contract", lambda name: replace(get_contract(name), budget=1.0))
    partner.hands_over(feed, DAY, given)
    partner.ingest(feed)
    values = partner.sampan.rows(
        f'select "{column.name}" from raw."{feed}" where "{column.name}" like \'p1%%\''
        f" union all select fields ->> '{column.name}' from quarantine.record where fields ->> '{column.name}' like 'p1%%'"
    )
    assert len(values) == 3
    assert len(set(values)) == 1


def test_an_hkid_does_not_hold_a_row_back_when_its_column_may_hold_one(partner):
    feed = "customs_declarations"
    given = rows(feed, 2)
    given[0] |= {"trader_id": hkid("Q", "123456"), "trader_name": "INDIVIDUAL"}
    given[1] |= {"trader_id": "Q1234560", "trader_name": "INDIVIDUAL"}
    assert hkid("Q", "123456") != "Q123456(0)"
    partner.hands_over(feed, DAY, given)
    partner.ingest(feed)
    assert gate.run(feed) == {"batches": 0, "held": 0}
    ((value,),) = partner.sampan.rows(
        "select q.fields ->> 'trader_id' from quarantine.record q where 'trader_id.pattern' = any(broken_rules)"
    )
    assert re.fullmatch(r"invalid_p1_[0-9a-f]{64}", value)


def wide(text: str) -> str:
    """Text in characters of full width."""
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


# Ways to write a number, from its six digits, so that it does not match the format.
MISSPELT = {
    "no check digit": lambda digits: f"Q{digits}",
    "a digit lost": lambda digits: f"Q{digits[:5]}({digits[5]})",
    "slash": lambda digits: f"Q{digits}/3",
    "square brackets": lambda digits: f"Q{digits}[3]",
    "spread out": lambda digits: f"Q {digits[:3]} {digits[3:]} (3)",
    "dot": lambda digits: f"Q.{digits}(3)",
    "lower case": lambda digits: f"q{digits}",
    "two letters": lambda digits: f"XQ-{digits}",
    "a digit too many": lambda digits: f"Q{digits}37",
    "zero width": lambda digits: f"Q\u200b{digits}(3)",
    "a word before": lambda digits: f"ID Q{digits}",
}
SPELLINGS = MISSPELT | {
    f"{name}, wide": lambda digits, spell=spell: wide(spell(digits)) for name, spell in MISSPELT.items()
}


@pytest.mark.parametrize("way", ["in blocks", "exact", "records that cannot be split"])
def test_a_misspelt_hkid_is_quarantined_and_kept_nowhere_when_its_column_expects_one(
    way, partner, caplog, capfd, monkeypatch
):
    caplog.set_level("DEBUG")
    feed = "customs_declarations"
    contract = get_contract(feed)
    monkeypatch.setattr(ledger, "get_contract", lambda name: replace(get_contract(name), budget=1.0))
    planted = {form: spell(str(740_000 + number)) for number, (form, spell) in enumerate(SPELLINGS.items())}
    typing_errors = ["1234567", "123456789", "12 345 678"]
    given = rows(feed, len(planted) + len(typing_errors) + 5)
    for row, value in zip(given, [*planted.values(), *typing_errors], strict=False):
        row["trader_id"] = value
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.source_name for column in contract.columns])
    for number, row in enumerate(given):
        broken = way == "records that cannot be split" and number < len(planted)
        writer.writerow([row[column.name] for column in contract.columns] + ["surplus"] * broken)
    if way == "exact":
        # A value that its type does not take is tested by the database.
        last = given[-1] | {"value_hkd": "much"}
        writer.writerow([last[column.name] for column in contract.columns])
    partner.puts(feed, DAY, f"delivery.{contract.source.extension}", compress(contract, out.getvalue().encode()))
    batch = partner.ingest(feed)
    assert batch["state"] == "published", batch["problem"]
    assert batch["rows_quarantined"] == len(planted) + len(typing_errors) + (way == "exact")
    entries = quarantine.entries(feed)
    shown = "".join(str(entry) for entry in entries) + "".join(quarantine.export(contract, entries))
    assert sum("[invalid HKID]" in entry.record or "[pseudonym]" in entry.record for entry in entries) == len(planted)
    if way != "records that cannot be split":
        assert sum(entry.fields["trader_id"] == "[invalid HKID]" for entry in entries) == len(planted)
        hidden = partner.sampan.rows("select distinct fields ->> 'trader_id' from quarantine.record")
        assert sum(value.startswith("invalid_p1_") for (value,) in hidden) == len(planted)
    assert all(value in shown for value in typing_errors)
    output = capfd.readouterr()
    kept = "\n".join([everything(settings().dsn("admin")), shown, caplog.text, output.out, output.err])
    kept += in_the_lake(partner.sampan, feed)
    squeezed = re.sub("[^A-Z0-9]", "", unicodedata.normalize("NFKC", kept).upper())
    assert re.findall("Q7400[0-9]{2}", squeezed) == []
    assert [value for value in planted.values() if value in kept] == []
    if EXTERNAL_DSN is None:
        files = _files_of_the_server()
        assert [value for value in planted.values() if value.encode() in files] == []


def optional_personal(contract) -> list:
    """Columns that are personal data in every row and may be missing."""
    return [column for column in contract.columns if column.wholly_personal and not column.required]


@pytest.mark.parametrize("feed", feeds(lambda c: c.drift != "fail" and bool(optional_personal(c)), least=2))
def test_load_holds_the_batch_when_a_personal_column_may_have_come_under_another_name(feed, partner):
    contract, given = get_contract(feed), rows(feed, 3)
    partner.hands_over(feed, DAY, given, renamed={optional_personal(contract)[0].name: "Mobile"})
    batch = partner.ingest(feed)
    assert (batch["state"], batch["problem"]["rule"]) == ("held", "delivery.header_personal_data")


# --- what stands outside the contract ---------------------------------------------------------------------------------


def server_log() -> bytes:
    """What the embedded server has logged so far."""
    port = str(conninfo_to_dict(settings().dsn("admin"))["port"])
    (log,) = [
        file.parent / "server.log"
        for place in (tempfile.gettempdir(), "/dev/shm")
        for file in Path(place).glob("sampan-postgres-*/data/postmaster.pid")
        if port in file.read_text().split("\n")
    ]
    return log.read_bytes()


@pytest.mark.parametrize("feed", ["customs_declarations", "hkecic_policies", "hkecic_shipments", "platform_orders"])
def test_nothing_outside_the_contract_is_kept_anywhere_but_in_landing(feed, partner, caplog, capfd):
    """Kind of fault: text of a partner that no column describes: unknown columns, the name of a file, a broken record."""
    caplog.set_level("INFO")
    contract, planter = get_contract(feed), Planter(200 + FEEDS.index(feed))
    given = rows(feed, 60)
    given[0] |= {contract.key[0]: "?" * 200}
    added = {
        "contact_phone": [planter.secret("phone") for _ in given],
        "buyer_name": [planter.secret("buyer") for _ in given],
        "hkid_no": [planter.hkid(list(FORMS)[number % len(FORMS)]) for number in range(len(given))],
        f"of {planter.hkid('brackets')}": ["x"] * len(given),
    }
    name = f"declarations of Chan Tai Man {planter.hkid('brackets')}.{contract.source.extension}"
    partner.puts(feed, DAY, name, encode(contract, given, added=added))
    batch = partner.ingest(feed)
    assert (batch["state"], batch["rows_quarantined"]) == ("published", 1), batch["problem"]
    assert batch["source_uri"].endswith(f"/{DAY}/declarations of Chan Tai Man [HKID].{contract.source.extension}")
    # A second one is refused, a third one cannot be read: their names are in messages and alerts.
    for place in ("undated", str(DAY)):
        partner.puts(feed, place, f"{place}, of {planter.hkid('bare')}", b"not a delivery")
    since = batch["received_at"]
    partner.ingest(feed)
    with pytest.raises(PermanentFailure) as told:
        ledger.notify_owner(feed, since)
    # The key itself is needed to fetch and to delete the object.
    keys = partner.sampan.rows("select source_uri from ops.delivery")
    found = everything(settings().dsn("admin"))
    for (uri,) in keys:
        found = found.replace(uri, "")
    assert found_in(found, planter.needles) == set()
    landed = partner.sampan.s3.list_objects_v2(Bucket=settings().landing_bucket)["Contents"]
    heads = [partner.sampan.s3.head_object(Bucket=settings().landing_bucket, Key=item["Key"]) for item in landed]
    assert len(heads) == 2
    assert all("source" in head["Metadata"] for head in heads)
    output = capfd.readouterr()
    shown = [str(heads), str(told.value), caplog.text, output.out, output.err, str(quarantine.entries(feed))]
    files = b"".join(file.read_bytes() for file in partner.sampan.state.rglob("*") if file.is_file())
    assert found_in("\n".join(shown).encode() + files, planter.needles) == set()
    if EXTERNAL_DSN is None:
        assert found_in(server_log(), planter.needles) == set()


def test_the_log_of_the_server_gets_no_value_when_a_value_has_another_type(partner, caplog, capfd):
    """Kind of fault: an error of the server quotes the value that it is about. The steward sees it, the logs do not."""
    caplog.set_level("DEBUG")
    feed, planter = "customs_declarations", Planter(230)
    given = rows(feed, 60)
    given[0]["value_hkd"] = f"{planter.secret('owner')} {planter.hkid('brackets')} 9123 4567"
    partner.hands_over(feed, DAY, given)
    batch = partner.ingest(feed)
    assert (batch["rows_published"], batch["rows_quarantined"]) == (59, 1)
    # What breaks a rule in a statement of its own, outside the steps.
    for query in (f"select '{given[0]['value_hkd']}'::numeric", "insert into ops.batch (feed) values ('{0}'), ('{0}')"):
        with pytest.raises(psycopg.Error) as error, connect() as connection:
            connection.execute(query.format(given[0]["value_hkd"]))
        assert found_in(str(error.value), planter.needles) == set()
    output = capfd.readouterr()
    tables = partner.sampan.rows("select b::text from ops.batch b union all select a::text from ops.alert a")
    assert found_in("\n".join([str(tables), caplog.text, output.out, output.err]), planter.needles) == set()
    if EXTERNAL_DSN is None:
        assert found_in(server_log(), planter.needles) == set()
        assert b"9123 4567" not in server_log()


def test_what_an_api_says_is_cleaned_before_it_is_kept_or_printed(partner):
    """Kind of fault: text of another server that goes to a terminal and to a table as it came."""
    feed, planter = "hkma_exchange_rates", Planter(231)
    contract = get_contract(feed)
    said = f"\x1b]0;pwned\x07 of {planter.hkid('brackets')}\r\nsampan: everything is fine"
    with Api(contract, turn=lambda number, status, body: (403, said.encode())) as api:
        run = partner.sampan.cli("fetch", feed, **{contract.source.requests[0].base_variable: api.url})
    assert run.returncode == 1
    assert "HTTP 403" in run.stderr
    assert found_in(run.stdout + run.stderr, planter.needles) == set()
    assert not [char for char in run.stderr if not char.isprintable() and char != "\n"]
    assert not [line for line in run.stderr.splitlines() if line.startswith("sampan: everything")]
    (problem,) = partner.sampan.rows("select problem ->> 'message' from ops.feed_poll")[0]
    assert "\\x1b" in problem
    assert problem.isprintable()
    assert found_in(everything(settings().dsn("admin")), planter.needles) == set()


def test_the_ledger_keeps_no_name_of_a_file_when_retention_has_deleted_it(partner):
    """Kind of fault: what is left of a delivery after it is called gone."""
    feed = "customs_declarations"
    contract, name = get_contract(feed), "declarations of Chan Tai Man.csv.gz"
    body = encode(contract, rows(feed, 5))
    partner.puts(feed, DAY, name, body)
    partner.puts(feed, DAY, f"bad, {name}", b"not gzip")
    partner.puts(feed, "undated", name, body)
    partner.ingest(feed)
    with pytest.raises(PermanentFailure):
        ledger.notify_owner(feed, partner.sampan.one("select min(received_at) from ops.batch"))
    assert "Chan Tai Man" in str(partner.sampan.rows("select message from ops.alert"))
    # Until then the address as it came is the loader's alone.
    for query in ("select source_uri from ops.delivery", "select source_uri from ops.deletion", "table ops.delivery"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            partner.sampan.rows(query, role="builder")
    assert len(partner.sampan.rows("select etag, problem from ops.delivery", role="builder")) == 3
    after = max(DAY, today()) + timedelta(days=contract.retention_days + 1)
    for round_ in (1, 2):
        assert retention.run(after)["objects"] > 0
        assert "Chan Tai Man" not in everything(settings().dsn("admin"))
        assert partner.sampan.one("select count(*) from ops.deletion where verified_at is null") == 0
        # The same name after that is a new delivery, and its content is refused for the same date.
        partner.puts(feed, DAY, name, body)
        assert land.run(feed) == {"landed": 0, "repeated": 0, "refused": 1}
        assert partner.sampan.one("select count(*) from ops.delivery where deleted_at is null") == 1
        assert partner.sampan.one("select count(*) from ops.delivery") == 3 + round_


# --- from the door to the marts ---------------------------------------------------------------------------------------

PERSONAL = [(feed, c) for feed in FEEDS for c in get_contract(feed).columns if c.personal != "none"]


def test_no_personal_column_of_any_feed_comes_to_anything_that_a_build_and_a_release_write(
    partner, caplog, capfd, monkeypatch, tmp_path
):
    """All feeds, through ingest, build, gates and release. Landing and drop hold deliveries as they came, by design."""
    caplog.set_level("DEBUG")
    monkeypatch.setattr(ledger, "get_contract", lambda name: replace(get_contract(name), budget=1.0))
    monkeypatch.setattr(build, "FULL_REFRESH_SHARE", 2)
    needles: list[str] = []
    returned: list[object] = []
    planted_in: set[tuple[str, str]] = set()
    for feed in FEEDS:
        contract, planter = get_contract(feed), Planter(100 + FEEDS.index(feed))
        given = rows(feed, len(FORMS) * len(contract.stored) + 5)
        for number, row in enumerate(given):
            for column in contract.columns:
                if column.wholly_personal:
                    row[column.name] = planter.secret(column.name)
                elif column.expects_hkid and number < len(FORMS):
                    row[column.name] = planter.hkid(list(FORMS)[number])
                else:
                    continue
                planted_in.add((feed, column.name))
        partner.puts(feed, DAY, f"delivery.{contract.source.extension}", as_text(feed, given, planter))
        batch = partner.ingest(feed)
        assert batch["state"] == "published", (feed, batch["problem"])
        returned.append(tell(feed))
        needles += planter.needles
    assert planted_in == {(feed, column.name) for feed, column in PERSONAL}
    assert len(planted_in) >= 30
    assert len(needles) > 300
    # Made-up rows may break what models expect of each other: then the messages of that are looked through, too.
    for step in steps.names():
        try:
            returned.append(build.run(step, force=step == steps.names()[0]))
        except PermanentFailure as error:
            returned.append(str(error))
    ((step_count, nodes),) = partner.sampan.rows(
        "select count(distinct step), count(*) filter (where status in ('success', 'pass')) from ops.build_node"
    )
    assert step_count >= len(steps.names()) - 1, returned
    assert nodes > 200
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute("update ops.build set state = 'built', built_at = clock_timestamp() where state = 'open'")
    for word in (release.gate, release.run):
        try:
            returned.append(word())
        except PermanentFailure as error:
            returned.append(str(error))
    assert partner.sampan.one("select count(*) from ops.gate_result where build_no is not null") > 50
    page.write(tmp_path / "docs" / "index.html")

    assert found_in(everything(settings().dsn("admin")), needles) == set()
    written = [path for path in (*partner.sampan.state.rglob("*"), *(tmp_path / "docs").rglob("*")) if path.is_file()]
    kinds = {path.suffix for path in written}
    assert {".sql", ".log", ".html"} <= kinds, kinds
    for path in written:
        assert found_in(path.read_bytes(), needles) == set(), path
    output = capfd.readouterr()
    # What a task returns is what goes to XCom.
    said = "\n".join([json.dumps(returned, default=str), caplog.text, output.out, output.err])
    assert found_in(said, needles) == set()
    if EXTERNAL_DSN is None:
        assert found_in(_files_of_the_server(), needles) == set()


def tell(feed: str) -> str:
    """What the owner of a feed is told."""
    try:
        ledger.notify_owner(feed, datetime(2026, 1, 1).astimezone())
    except PermanentFailure as error:
        return str(error)
    return "nothing"


# --- guesses ----------------------------------------------------------------------------------------------------------


def as_steward(feed: str, query: str) -> list[tuple[object, ...]]:
    """Rows of a query as the steward of a feed's partner."""
    with psycopg.connect(settings().dsn("admin"), autocommit=True) as connection:
        steward = sql.Identifier(f"steward_{get_contract(feed).partner}")
        connection.execute(sql.SQL("set role {}").format(steward))
        return connection.execute(query).fetchall()


def test_a_guess_at_an_hkid_shows_a_steward_nothing_that_links(partner, capfd):
    """Quarantine as an oracle (H5): deliver a guess that breaks another rule, and read the pseudonym of the guess."""
    feed = "customs_declarations"
    someone, unknown = hkid("Q", "123456"), hkid("X", "123456")
    given = rows(feed, 120)
    given[0] |= {"trader_id": someone, "trader_name": "INDIVIDUAL"}
    partner.hands_over(feed, DAY, given[:60], "sound")
    partner.ingest(feed)
    known = partner.sampan.one(f"select trader_id from raw.{feed} where trader_id like 'p%'")
    for row, guess in zip(given[60:], [someone, unknown, "Q1234560"], strict=False):
        row |= {"trader_id": guess, "trader_name": "INDIVIDUAL", "value_hkd": "-1", "goods_description": f"of {guess}"}
    partner.hands_over(feed, DAY, given[60:], "guesses")
    assert partner.ingest(feed)["rows_quarantined"] == 3
    assert partner.sampan.one(f"select count(*) from quarantine.{feed} where record like %s", f"%{known}%") == 1
    seen = as_steward(feed, f"select record, fields, fields ->> 'trader_id' from quarantine.{feed}__rows order by line")
    assert [row[2] for row in seen] == ["[pseudonym]", "[pseudonym]", "[invalid HKID]"]
    entries = quarantine.entries(feed)
    app(["quarantine", "show", feed], standalone_mode=False)
    app(["quarantine", "show", feed, "--csv"], standalone_mode=False)
    shown = [str(seen), str(entries), *quarantine.export(get_contract(feed), entries), *capfd.readouterr()]
    assert sum(text.count("[pseudonym]") for text in shown) > 10
    assert not re.search("p1_|[0-9a-f]{20}", "".join(shown))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_steward(feed, f"select record from quarantine.{feed}")


def test_a_replay_keeps_the_person_when_the_row_comes_back_as_it_was_shown(partner, tmp_path):
    feed = "customs_declarations"
    given = rows(feed, 60)
    given[0] |= {"trader_id": hkid("Q", "123456"), "trader_name": "INDIVIDUAL", "value_hkd": "-1"}
    given[0] |= {"goods_description": f"for {hkid('Q', '123456')}"}
    partner.hands_over(feed, DAY, given)
    partner.ingest(feed)
    ((stored, text),) = partner.sampan.rows(
        f"select fields ->> 'trader_id', fields ->> 'goods_description' from quarantine.{feed}"
    )
    file = tmp_path / "corrected.csv"
    contract = get_contract(feed)
    file.write_text("".join(quarantine.export(contract, quarantine.entries(feed))).replace(",-1", ",17"))
    assert "[pseudonym]" in file.read_text()
    assert quarantine.replay(feed, corrected=file) == {"rows": 1, "published": 1, "quarantined": 0}
    assert partner.sampan.rows(f"select trader_id, goods_description from raw.{feed} where trader_id like 'p%%'") == [
        (stored, text)
    ]


def test_a_forged_pseudonym_makes_nobody_a_person(partner, tmp_path):
    """Deliver a pseudonym that was learnt or made up, or enter it in a corrected row, and pass as its person (H5)."""
    feed, number = "customs_declarations", hkid("Q", "123456")
    given = rows(feed, 120)
    given[0] |= {"trader_id": number, "trader_name": "INDIVIDUAL"}
    partner.hands_over(feed, DAY, given[:60], "sound")
    partner.ingest(feed)
    known = partner.sampan.one(f"select trader_id from raw.{feed} where trader_id like 'p%'")
    forged = [known, f"p1_{'0a' * 32}"]
    for row, value in zip(given[60:], forged, strict=False):
        row |= {"trader_id": value, "trader_name": "INDIVIDUAL"}
    partner.hands_over(feed, DAY, given[60:], "forged")
    assert partner.ingest(feed)["rows_quarantined"] == 2
    assert partner.sampan.one(f"select count(*) from raw.{feed} where trader_id like 'p%%'") == 1
    entry = quarantine.entries(feed)[0]
    file = tmp_path / "corrected.csv"
    file.write_text(f"_quarantine_id,trader_id\n{entry.quarantine_id},{known}\n")
    with pytest.raises(PermanentFailure) as refusal:
        quarantine.replay(feed, corrected=file)
    assert refusal.value.problem.rule == "quarantine.pseudonym"
    assert known not in str(refusal.value)


def test_many_guesses_raise_one_alert_when_a_partner_delivers_them_within_a_day(partner):
    """Guessing goes unnoticed, batch after batch (H5)."""
    feed, alerts = "customs_declarations", "select feed, message from ops.alert where kind = 'hkid_guesses'"
    for number in range(3):
        given = rows(feed, 20 * (number + 1))[20 * number :]
        for place, row in enumerate(given):
            row |= {"trader_id": hkid("Q", f"{number}{place:05}"), "trader_name": "INDIVIDUAL", "value_hkd": "-1"}
        partner.hands_over(feed, DAY, given, f"part_{number}")
        assert partner.ingest(feed)["state"] == "held"
        assert len(partner.sampan.rows(alerts)) == (number == 2)
    ((told, message),) = partner.sampan.rows(alerts)
    assert told == feed
    assert "20 rows with HKID numbers" in message
    assert "60 of this partner within a day" in message
    partner.hands_over(feed, DAY, given[:1], "one_more")
    partner.ingest(feed)
    assert len(partner.sampan.rows(alerts)) == 1


# --- rotation of the key ----------------------------------------------------------------------------------------------


def test_pseudonyms_of_two_keys_are_joined_by_the_platform_and_by_nobody_else(partner, monkeypatch):
    """After a rotation of the key, one person would be two; and a table that joins them must be no reader's."""
    feed = "customs_declarations"
    numbers = [hkid("Q", "123456"), hkid("X", "654321")]
    given = rows(feed, 60)

    def deliver(part: int) -> None:
        rows_of_part = given[20 * part : 20 * part + 20]
        for row, number in zip(rows_of_part, numbers, strict=False):
            row |= {"trader_id": number, "trader_name": "INDIVIDUAL"}
        partner.hands_over(feed, DAY, rows_of_part, f"part_{part}")
        assert partner.ingest(feed)["state"] == "published"

    deliver(0)
    old = settings().pseudonym_key.hex()
    for name, value in (("", "ab" * 32), ("_VERSION", "2"), ("_1", old)):
        monkeypatch.setenv(f"SAMPAN_PSEUDONYM_KEY{name}", value)
    settings.cache_clear()
    deliver(1)
    joined = """
        select old.trader_id, new.trader_id
        from raw.customs_declarations as new
        inner join ops.pseudonym_alias as alias on new.trader_id = alias.pseudonym
        inner join raw.customs_declarations as old on alias.oldest = old.trader_id
    """
    for role in ("loader", "builder"):
        pairs = partner.sampan.rows(joined, role=role)
        assert len(pairs) == len(set(pairs)) == len(numbers)
        assert all(before.startswith("p1_") and after.startswith("p2_") for before, after in pairs)
    readers = [(settings().dsn("bi"), "bi_reader")]
    with psycopg.connect(settings().dsn("admin"), autocommit=True) as admin:
        readers += [
            (settings().dsn("admin"), role)
            for (role,) in admin.execute(
                # Banks of other tests may be on the server, which this administrator did not make.
                "select rolname from pg_roles where rolname ~ '^(steward|bank)_' and pg_has_role(oid, 'set')"
            )
        ]
    assert len(readers) > 5
    for dsn, role in readers:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
            for table in ("pseudonym_alias", "person", "person_pseudonym"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"select * from ops.{table}")


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"": "cd" * 32}, "SAMPAN_PSEUDONYM_KEY is not the key that this warehouse knows as version 1"),
        ({"": "cd" * 32, "_VERSION": "2", "_1": "ef" * 32}, "SAMPAN_PSEUDONYM_KEY_1 is not the key"),
        (
            {"": "cd" * 32, "_VERSION": "2"},
            "SAMPAN_PSEUDONYM_KEY_1 is not set, and deliveries loaded under this version",
        ),
    ],
    ids=["another_key_under_the_version", "another_older_key", "without_the_older_key"],
)
def test_a_key_that_would_split_persons_is_refused(keys, found, partner, monkeypatch):
    """A mistyped or lost key would give every person a second pseudonym, in silence."""
    feed = "customs_declarations"
    given = rows(feed, 40)
    for row in given:
        row |= {"trader_id": hkid("Q", "123456"), "trader_name": "INDIVIDUAL"}
    partner.hands_over(feed, DAY, given[:20], "before")
    assert partner.ingest(feed)["state"] == "published"
    partner.hands_over(feed, DAY, given[20:], "after")
    with monkeypatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(f"SAMPAN_PSEUDONYM_KEY{name}", value)
        settings.cache_clear()
        for command in (("ingest", feed), ("init",)):
            refused = partner.sampan.cli(*command, **{f"SAMPAN_PSEUDONYM_KEY{name}": keys[name] for name in keys})
            assert (refused.returncode, found in refused.stderr) == (1, True), refused.stderr
            assert "[settings.pseudonym_key]" in refused.stderr
    settings.cache_clear()
    # Nothing of it is stored, and no batch is held for it.
    assert partner.ingest(feed)["state"] == "published"
    assert partner.sampan.one("select count(distinct trader_id) from raw.customs_declarations") == 1


def test_an_older_key_may_go_when_all_that_was_loaded_under_it_is_deleted(partner, monkeypatch):
    feed = "customs_declarations"
    partner.hands_over(feed, DAY, rows(feed, 20))
    assert partner.ingest(feed)["state"] == "published"
    monkeypatch.setenv("SAMPAN_PSEUDONYM_KEY", "cd" * 32)
    monkeypatch.setenv("SAMPAN_PSEUDONYM_KEY_VERSION", "2")
    settings.cache_clear()
    with pytest.raises(PermanentFailure, match="SAMPAN_PSEUDONYM_KEY_1 is not set"):
        warehouse.apply_schema()
    assert retention.run(DAY + timedelta(days=get_contract(feed).retention_days + 1))["batches"] == 1
    warehouse.apply_schema()


# --- roles ------------------------------------------------------------------------------------------------------------


def test_a_steward_reads_the_quarantine_of_its_own_feeds_only_when_it_is_connected(partner):
    with psycopg.connect(settings().dsn("admin"), autocommit=True) as connection:
        checked = 0
        for contract in all_contracts().values():
            connection.execute(sql.SQL("set role {}").format(sql.Identifier(f"steward_{contract.partner}")))
            for other in all_contracts().values():
                query = sql.SQL("select * from quarantine.{}").format(sql.Identifier(f"{other.feed}__rows"))
                if other.partner == contract.partner:
                    connection.execute(query)
                else:
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        connection.execute(query)
                checked += 1
            for query in (
                "select * from quarantine.record",
                f"select * from quarantine.{contract.feed}",
                "select * from ops.batch",
                f"select * from raw.{other.feed}",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(query)
            connection.execute("reset role")
        assert checked >= 100


def test_a_steward_sees_file_and_date_of_its_own_rows_when_it_logs_in(partner):
    feed = "customs_declarations"
    contract = get_contract(feed)
    broken = rows(feed, 40)
    broken[3]["value_hkd"] = "-1"
    partner.hands_over(feed, DAY, broken, "of_monday")
    partner.ingest(feed)
    warehouse.apply_schema()
    login, password = f"steward_login_{secrets.token_hex(4)}", secrets.token_hex(8)
    names = sql.Identifier(login), sql.Identifier(f"steward_{contract.partner}")
    other = next(other for other in all_contracts().values() if other.partner != contract.partner)
    with psycopg.connect(settings().dsn("admin"), autocommit=True) as admin:
        admin.execute(sql.SQL("create role {} login password {}").format(names[0], sql.Literal(password)))
        try:
            admin.execute(sql.SQL("grant {1} to {0}").format(*names))
            dsn = make_conninfo(settings().dsn("admin"), user=login, password=password)
            with psycopg.connect(dsn, autocommit=True) as steward:
                query = f"select business_date, file, line, broken_rules, state from quarantine.{feed}__rows"
                assert steward.execute(query).fetchall() == [
                    (DAY, "of_monday.csv.gz", 5, ["value_hkd.minimum"], "open")
                ]
                for name in (f"quarantine.{other.feed}__rows", "ops.batch", "quarantine.record"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        steward.execute(f"select * from {name}")
        finally:
            admin.execute(sql.SQL("drop role {}").format(names[0]))


@pytest.mark.parametrize(
    "query",
    [
        "select * from raw.customs_declarations",
        "select * from quarantine.record",
        "select * from ops.batch",
        "select * from staging.x",
        "create table marts.x (a int)",
        "create table public.x (a int)",
        "create schema x",
        "create temporary table x (a int)",
        "set role sampan_loader",
        "select pg_read_file('postgresql.conf')",
        "copy (select 1) to program 'true'",
    ],
)
def test_the_bi_role_is_refused_when_it_leaves_the_marts(query, sampan):
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable)) as refused:
        sampan.rows(query, role="bi")
    assert "staging.x" in query or isinstance(refused.value, psycopg.errors.InsufficientPrivilege)
