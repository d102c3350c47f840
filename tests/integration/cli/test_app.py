"""The `sampan` command: what it prints, what it returns, and that it never ends in a stack trace of a person's mistake."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sys
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from sampan.cli import app
from sampan.cli.output import out as console
from sampan.contracts.model import FEEDS as FOLDER
from sampan.contracts.registry import get_contract
from sampan.ingest import fetch, quarantine
from sampan.settings import settings
from sampan.text import spreadsheet_text

from infra.simulator.serve import Behaviour, Server
from tests.factory import DAY, FEEDS, encode, rows, stored
from tests.unit.cli.test_app import COMMANDS

FEED = "customs_declarations"
CONTRACT = get_contract(FEED)


class Run:
    """Runs the command in this process: at a terminal of some width, or in a pipe (width None)."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: Any, width: int | None = 200) -> None:
        self.patch, self.capsys, self.width = patch, capsys, width

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self.patch.setattr(sys, "argv", ["sampan", *arguments])
        self.patch.setattr(console, "_width", self.width or 80)
        self.patch.setattr(console, "_force_terminal", self.width is not None)
        self.patch.setattr(sys, "excepthook", sys.excepthook)
        mask = os.umask(0o022)
        try:
            app.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            os.umask(mask)
        output = self.capsys.readouterr()
        return code, output.out, output.err


@pytest.fixture
def run(monkeypatch, capsys) -> Run:
    return Run(monkeypatch, capsys)


@pytest.fixture
def piped(monkeypatch, capsys) -> Run:
    return Run(monkeypatch, capsys, width=None)


@pytest.fixture
def narrow(monkeypatch, capsys) -> Run:
    return Run(monkeypatch, capsys, width=80)


def delivered(sampan, *changes: dict, count: int = 40) -> list[dict]:
    given = rows(FEED, count)
    body = encode(CONTRACT, [row | (changes[n] if n < len(changes) else {}) for n, row in enumerate(given)])
    sampan.deliver(FEED, DAY, "delivery.csv.gz", body)
    return given


# --- as a person runs it ----------------------------------------------------------------------------------------------


def test_ingest_says_file_and_rule_and_returns_1_when_a_delivery_is_truncated(sampan):
    body = encode(CONTRACT, rows(FEED, 40))
    sampan.deliver(FEED, DAY, "cut.csv.gz", body[: len(body) // 2])
    done = sampan.cli("ingest", FEED)
    assert done.returncode == 1
    assert re.search(r"cut\.csv\.gz.*ends too early.*\[delivery\.truncated\]", done.stderr)
    assert "Traceback" not in done.stderr + done.stdout
    assert "load customs_declarations: 0 batches, 1 held" in done.stdout


def test_a_quiet_ingest_says_nothing_beside_its_counts_when_all_is_well(sampan):
    """The kind: a library that sets a log level of its own speaks when the command is to be quiet."""
    delivered(sampan)
    done = sampan.cli("--quiet", "ingest", FEED)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_step_says_to_try_again_and_returns_75_when_the_object_store_is_away(sampan):
    done = sampan.cli("fetch", FEED, SAMPAN_S3_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 75
    assert re.fullmatch(r"sampan: object store: .*; try again\n", done.stderr)


# --- in this process --------------------------------------------------------------------------------------------------


def test_each_step_says_what_it_did_when_it_is_run_by_hand(sampan, run):
    delivered(sampan, {"value_hkd": "-1"})
    expected = {
        "fetch": "1 seen",
        "land": "1 landed, 0 repeated, 0 refused",
        "load": "1 batches, 0 held",
        "gate": "1 batches, 0 held",
        "publish": "1 batches, 0 held, 39 rows",
    }
    for step, said in expected.items():
        code, out, _ = run(step, FEED, "--date", str(DAY)) if step != "fetch" else run(step, FEED)
        assert (code, out) == (0, f"{step} {FEED}: {said}\n")


def test_deliver_says_when_a_name_will_be_ignored(sampan, run, tmp_path):
    for name, ignored in (("orders.csv.gz.part", True), ("orders.csv.gz", False)):
        (tmp_path / name).write_bytes(encode(CONTRACT, rows(FEED, 3)))
        code, out, err = run("deliver", FEED, str(tmp_path / name), "--date", str(DAY))
        assert (code, f"/{DAY}/{name}" in out) == (0, True)
        assert ("by its name it is an unfinished upload or a copy, not a delivery" in err) == ignored


def test_the_next_feed_has_its_turn_when_one_fails_in_a_way_that_was_not_foreseen(sampan, run, capsys, monkeypatch):
    """Kind of fault: what one feed brings on ends the command, and the feeds named after it are not looked at."""
    delivered(sampan)
    original = fetch.run

    def broken(feed, *arguments):
        if feed == "platform_orders":
            raise ValueError("synthetic")
        return original(feed, *arguments)

    monkeypatch.setattr(fetch, "run", broken)
    with pytest.raises(ValueError, match="synthetic"):
        run("ingest", "platform_orders", FEED)
    output = capsys.readouterr()
    assert f"publish {FEED}: 1 batches, 0 held, 40 rows" in output.out
    assert "platform_orders: ValueError, an error that was not foreseen" in output.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("fetch", "custom_declaration"), 1, "no feed 'custom_declaration'; did you mean customs_declarations?"),
        (("status", "no_such_feed"), 1, "no feed 'no_such_feed'; feeds: "),
        (("build", "stagging"), 1, "unknown step 'stagging'; did you mean staging?"),
        (("contracts", "policy", "custom"), 2, "no policy 'custom'; did you mean customs"),
        (("alerts", "acknowledge", "77", "--reason", "x"), 1, "no alert 77; `sampan alerts list` shows them"),
        (("alerts", "silence", "late", "--until", "2026-07-09", "--reason", "x"), 1, "no alert has the cause 'late'"),
        (("alerts", "silence", "late", "--until", "2026-07-09", "--reason", " "), 1, "give a reason"),
        (("ingest", "no_such_feed"), 1, "no feed 'no_such_feed'; feeds: "),
        (("quarantine", "list", "no_such_feed"), 1, "no feed"),
        (("land", FEED, "--date", "06/07/2026"), 2, "does not match the format"),
        (("land",), 2, "Missing argument"),
        (("gate", FEED, "--accept", "because"), 1, "--accept needs --date"),
        (
            ("gate", FEED, "--accept", "because", "--date", "2026-07-06"),
            1,
            "no batch of customs_declarations for 2026-07-06 is held",
        ),
        (("gate", FEED, "--accept", " ", "--date", "2026-07-06"), 1, "give a reason"),
        (("quarantine", "discard", FEED, "--reason", " ", "1"), 1, "give a reason"),
        (("calendar", "close", "2026-07-06", "--reason", " "), 1, "give a reason"),
        (("consent", "revoke", "CS0000000001", "--reason", ""), 1, "give a reason"),
        (("identity", "review", "reject", "1", "--reason", " "), 1, "give a reason"),
        (("identity", "decide", "shop", "jd:1", "90000001", "same", "--reason", " "), 1, "give a reason"),
        (("quarantine", "replay", FEED), 1, "no open row"),
        (("quarantine", "replay", FEED, "--file", "no/such/file.csv"), 1, "No such file"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_a_mistake_gets_one_message_when_it_is_made(arguments, code, said, sampan, run):
    returned, out, err = run(*arguments)
    assert returned == code
    assert said in " ".join((out + err).replace("│", " ").split())
    assert "Traceback" not in err


ABSENT = {
    "a wrong password": (
        {"SAMPAN_LOADER_PASSWORD": "nonsense"},
        {},
        1,
        "SAMPAN_LOADER_PASSWORD, then run `sampan init`",
    ),
    "no password": ({"SAMPAN_LOADER_PASSWORD": ""}, {}, 1, "SAMPAN_LOADER_PASSWORD, then run `sampan init`"),
    "no such database": ({}, {"dbname": "no_such"}, 1, "SAMPAN_LOADER_PASSWORD, then run `sampan init`"),
    "a database that is not made ready": ({}, {"dbname": "postgres"}, 1, "run `sampan init`"),
    "a server that is away": ({}, {"port": "9"}, 75, "run `make status` to see whether the server runs; try again"),
    "a host that is unknown": (
        {},
        {"host": "sampan.invalid"},
        75,
        "run `make status` to see whether the server runs; try again",
    ),
}


@pytest.mark.parametrize("case", ABSENT)
def test_status_says_what_to_do_when_the_warehouse_cannot_be_asked(case, sampan, run, monkeypatch):
    environment, parts, expected, said = ABSENT[case]
    environment |= {"SAMPAN_WAREHOUSE_DSN": make_conninfo(sampan.environment["SAMPAN_WAREHOUSE_DSN"], **parts)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    code, out, err = run("status")
    assert (code, out) == (expected, "")
    assert said in err
    assert "nonsense" not in err


def test_init_names_the_dsn_when_its_login_is_turned_down(sampan, run, monkeypatch):
    monkeypatch.setenv(
        "SAMPAN_WAREHOUSE_DSN",
        make_conninfo(sampan.environment["SAMPAN_WAREHOUSE_DSN"], user="unknown_role", password="no"),
    )
    settings.cache_clear()
    code, _, err = run("init")
    assert code == 1
    assert err.endswith("check SAMPAN_WAREHOUSE_DSN [warehouse.refused]; see docs/problems.md#warehouserefused\n")


def test_settings_say_which_is_missing_when_nothing_is_set_up(run, monkeypatch, tmp_path):
    for name in ("SAMPAN_WAREHOUSE_DSN", "SAMPAN_LOADER_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SAMPAN_STATE", str(tmp_path))
    settings.cache_clear()
    code, _, err = run("status")
    settings.cache_clear()
    assert code == 1
    assert "SAMPAN_WAREHOUSE_DSN is not set; run `make up`" in err


def broken_deliveries(sampan) -> None:
    delivered(sampan, {"value_hkd": "-1"})
    sampan.deliver(FEED, DAY, "odd [bold] [red] name.csv.gz", b"not gzip at all")
    sampan.deliver(FEED, "latest", "lost.csv.gz", b"x")


def test_status_says_first_what_is_broken_and_folds_what_is_well(sampan, run):
    broken_deliveries(sampan)
    sampan.deliver("quality_marks", DAY, "marks.xlsx", b"")
    assert run("ingest", FEED)[0] == 1
    code, out, _ = run("status", "--now", f"{DAY} 12:00:00")
    assert code == 0
    assert out.startswith(f"Broken at {DAY} 12:00, Hong Kong time")
    for rule in ("[delivery.corrupt]", "[delivery.no_business_date]", "odd [bold] [red] name.csv.gz: "):
        assert rule in out
    assert "rows published" not in out
    assert "\x1b" not in out
    assert re.search(rf"{FEED}\W+2\W+1\W+1\W+0\W+0\W+39\W+1\W+0\W+0\W+{DAY}", run("status", "--all")[1])


def test_status_says_that_nothing_is_broken_and_how_many_feeds_are_well(sampan, run, piped):
    delivered(sampan)
    assert run("ingest", FEED)[0] == 0
    noon = ("--now", f"{DAY} 12:00:00")
    out = run("status", FEED, *noon)[1]
    assert out.splitlines() == ["Nothing is broken.", "1 feed is well; `sampan status --all` lists it."]
    assert run("status", "--exit-code", FEED, *noon)[0] == 0
    assert json.loads(piped("status", FEED, *noon, "--json")[1])["broken"] == []


def test_status_returns_1_when_something_is_broken_and_that_is_asked_for(sampan, run, piped):
    broken_deliveries(sampan)
    run("ingest", FEED)
    assert run("status")[0] == 0
    code, out, _ = piped("status", "--exit-code", "--json", FEED)
    assert code == 1
    states = [fault["state"] for fault in json.loads(out)["broken"]]
    assert states[:3] == ["held by the gate", "refused", "late at the partner"]
    assert run("status", "--exit-code", "business_register", "--now", f"{DAY} 12:00:00")[0] == 0


def test_a_script_finds_each_feed_on_a_line_of_its_own(sampan, piped):
    """Kind of fault: a table is folded to the width of no terminal, and grep finds none of its names."""
    broken_deliveries(sampan)
    piped("ingest", FEED)
    out = piped("status")[1]
    assert f"\n{FEED}\t2\t1\t1\t0\t0\t39\t1\t0\t0\t{DAY}\n" in out
    assert not {"│", "┃", "─"} & set(out)
    lines = [line.split("\t") for line in piped("contracts", "list")[1].splitlines()]
    assert [line[0] for line in lines] == ["feed", *FEEDS]
    assert {len(line) for line in lines} == {7}


def test_no_name_is_cut_or_folded_when_the_terminal_is_narrow(sampan, narrow):
    broken_deliveries(sampan)
    narrow("ingest", FEED)
    for arguments in (("status", "--all"), ("contracts", "list"), ("quarantine", "list")):
        out = narrow(*arguments)[1]
        assert re.search(rf"(?<!\w){FEED}(?!\w)", out), arguments
    assert all(re.search(rf"(?<!\w){feed}(?!\w)", narrow("contracts", "list")[1]) for feed in FEEDS)


LISTS = [name.split() for name, command in COMMANDS.items() if any("--json" in item.opts for item in command.params)]


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_every_list_is_json_when_that_is_asked_for(words, sampan, piped):
    arguments = {"calendar show": [FEED], "quarantine show": [FEED]}.get(" ".join(words), [])
    code, out, err = piped(*words, *arguments, "--json")
    if " ".join(words) in {"consent show", "release show", "identity review show", "lineage show"}:
        assert (code, out) == (2, "")
        return
    assert code == 0, err
    assert isinstance(json.loads(out), list | dict)


def test_json_of_rows_in_quarantine_has_every_broken_rule_and_obeys_nothing(sampan, piped):
    delivered(sampan, {"value_hkd": "-1.005", "goods_description": "x\ty \x1b[31m \u202e 貨"})
    piped("ingest", FEED)
    out = piped("quarantine", "show", FEED, "--json")[1]
    assert not {"\x1b", "\u202e"} & set(out)
    found = json.loads(out)
    assert {row["rule"] for row in found} == {"value_hkd.minimum", "value_hkd.scale"}
    assert {row["value"] for row in found} == {"-1.005"}
    assert "貨" in found[0]["record"]
    header, *lines = piped("quarantine", "show", FEED)[1].splitlines()
    assert {len(line.split("\t")) for line in (header, *lines)} == {8}


def test_a_list_in_a_pipe_computes_nothing_in_a_spreadsheet(sampan, piped):
    """Tabs are what a spreadsheet takes from the clipboard, too: `| clip`, and paste."""
    formulas = ["=HYPERLINK(1)", "@SUM(A1)", "+1+cmd|x", "-2+3", "＝1+1"]
    delivered(sampan, *({"value_hkd": formula} for formula in formulas))
    piped("ingest", FEED)
    _, *lines = piped("quarantine", "show", FEED)[1].splitlines()
    cells = [cell for line in lines for cell in line.split("\t")]
    assert {f"'{formula}" for formula in formulas} <= set(cells)
    assert not [cell for cell in cells if spreadsheet_text(cell) != cell]


def test_quarantine_show_names_file_line_column_value_and_every_rule(sampan, run):
    given = delivered(sampan, {}, {"value_hkd": "-1.005", "goods_description": "x [/bold] \x1b[31m red"})
    run("ingest", FEED)
    (entry,) = quarantine.entries(FEED)
    code, out, _ = run("quarantine", "show", FEED)
    assert code == 0
    assert f"{entry.quarantine_id} delivery.csv.gz:3 ({DAY})" in out
    assert "value_hkd = '-1.005': value_hkd.minimum" in out
    assert "value_hkd = '-1.005': value_hkd.scale" in out
    assert given[1]["declaration_no"] in out
    assert "[/bold]" in out
    assert "\x1b" not in out
    assert "1 rows shown." in out
    assert "0 rows shown." in run("quarantine", "show", FEED, "--date", "2020-01-01")[1]


def test_quarantine_goes_round_when_rows_are_shown_corrected_replayed_and_discarded(sampan, run, tmp_path):
    given = delivered(sampan, {"value_hkd": "-1"}, {"value_hkd": "-2"})
    run("ingest", FEED)
    code, out, _ = run("quarantine", "list", FEED)
    assert code == 0
    assert re.search(rf"{FEED}\W+open\W+value_hkd.minimum\W+2", out)
    _, exported, _ = run("quarantine", "show", FEED, "--csv")
    lines = list(csv.DictReader(io.StringIO(exported)))
    lines[0]["value_hkd"] = given[0]["value_hkd"]
    file = tmp_path / "corrected.csv"
    with file.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(lines[0]))
        writer.writeheader()
        writer.writerow(lines[0])
    assert run("quarantine", "replay", FEED, "--file", str(file)) == (0, "1 rows, 1 published, 0 quarantined\n", "")
    reason = ("--reason", "sent twice")
    assert run("quarantine", "discard", FEED, lines[1]["_quarantine_id"], *reason)[1] == "discarded: 1 rows\n"
    assert sampan.rows("select state from quarantine.record order by quarantine_id") == [("resolved",), ("discarded",)]
    assert sampan.one(f"select count(*) from raw.{FEED}") == 39


def test_quarantine_as_csv_computes_nothing_in_a_spreadsheet_and_comes_back_as_it_was(sampan, run, tmp_path):
    """Kind of fault: a partner's text becomes a formula in a spreadsheet, or a command to a terminal."""
    odd = ['=HYPERLINK("http://x")', "@SUM(A1)", "+1-1", "\x1b]0;x\x07y", "plain"]
    delivered(sampan, *({"value_hkd": "-1", "goods_description": text} for text in odd))
    run("ingest", FEED)
    _, exported, _ = run("quarantine", "show", FEED, "--csv")
    lines = list(csv.DictReader(io.StringIO(exported)))
    assert [line["goods_description"] for line in lines] == [
        "'" + odd[0], "'" + odd[1], "'" + odd[2], r"\x1b]0;x\x07y", "plain"
    ]  # fmt: skip
    assert {line["value_hkd"] for line in lines} == {"-1"}
    assert "\x1b" not in exported
    lines[1]["goods_description"] = "'@corrected"
    file = tmp_path / "corrected.csv"
    with file.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(lines[0]))
        writer.writeheader()
        writer.writerows(line | {"value_hkd": "1.00"} for line in lines)
    assert run("quarantine", "replay", FEED, "--file", str(file))[1] == "5 rows, 5 published, 0 quarantined\n"
    stored = {text for (text,) in sampan.rows(f"select goods_description from raw.{FEED} where value_hkd = 1")}
    assert stored >= {odd[0], "@corrected", odd[2], odd[3], "plain"}


def test_a_file_name_forges_no_line_and_moves_no_cursor(sampan):
    """Kind of fault: control characters of a partner reach the terminal in logs, tables and messages."""
    name = "a\nsampan: everything is fine \x1b[2J\x1b]0;x\x07.csv.gz"
    sampan.deliver(FEED, DAY, name, b"not gzip at all")
    for arguments in (("ingest", FEED), ("status",), ("quarantine", "show", FEED)):
        done = sampan.cli(*arguments)
        said = done.stdout + done.stderr
        assert "\x1b" not in said
        assert "\x07" not in said
        assert not [line for line in said.splitlines() if line.startswith("sampan: everything")], said
    assert "everything is fine" in sampan.cli("status").stdout


def test_gate_accept_publishes_a_held_batch_with_name_and_reason_when_a_person_decides(sampan, run, partner):
    given = delivered(sampan, *[{"value_hkd": "-1"}] * 10)
    code, _, _ = run("ingest", FEED)
    assert code == 1
    assert sampan.batch(FEED)["problem"]["rule"] == "batch.rejection_budget"
    assert sampan.batch(FEED)["rows_held"] == 40
    assert sampan.one(f"select count(*) from raw.{FEED}") == 0
    code, out, _ = run("gate", FEED, "--date", str(DAY), "--accept", "known fault, agreed by phone")
    assert code == 0
    assert out.startswith(f"gate {FEED}: 1 held batches accepted\npublish {FEED}: 1 batches, ")
    batch = sampan.batch(FEED)
    assert (batch["state"], batch["rows_published"], batch["rows_quarantined"]) == ("published", 30, 10)
    assert batch["problem"]["accepted_because"] == "known fault, agreed by phone"
    assert batch["problem"]["accepted_by"]
    assert partner.raw(FEED) == stored(CONTRACT, given[10:])


def test_gate_accept_returns_1_and_says_why_when_a_held_batch_could_not_be_read(sampan, run):
    sampan.deliver(FEED, DAY, "cut.csv.gz", b"not gzip at all")
    run("ingest", FEED)
    code, out, err = run("gate", FEED, "--date", str(DAY), "--accept", "agreed by phone")
    assert (code, out) == (1, "")
    assert re.search(
        r"0 accepted; .* because their rows were never checked: batch 1: cut\.csv\.gz: .*\[delivery\.corrupt\]",
        err,
    )
    assert sampan.batch(FEED)["state"] == "held"


def test_ingest_tries_every_feed_when_one_fails_and_returns_the_worst_code(sampan, run, monkeypatch):
    feeds = ["hkma_exchange_rates", FEED, "hk_public_holidays"]
    given = delivered(sampan)
    monkeypatch.setenv("SAMPAN_HKMA_URL", "http://127.0.0.1:9")
    with Server(Behaviour(1)) as server:
        monkeypatch.setenv("SAMPAN_1823_URL", f"{server.url}/no/such/page")
        settings.cache_clear()
        code, _, err = run("ingest", *feeds)
        assert code == 1
        assert sampan.one(f"select count(*) from raw.{FEED}") == len(given)
        assert re.search(
            r"sampan: hkma_exchange_rates: http://127\.0\.0\.1:9.*; try again\nsampan: hk_public_holidays: ", err
        )
        assert run("ingest", *feeds[:2])[0] == 75


@pytest.mark.parametrize("option", ["--retry-held", "--again"], ids=["as it is called", "as it was called before"])
def test_load_resets_held_batches_when_asked(option, sampan, run):
    delivered(sampan, *[{"value_hkd": "-1"}] * 10)
    run("ingest", FEED)
    code, out, err = run("load", FEED, option)
    assert code == 0
    assert "1 held batches reset" in out
    assert ("'--again' is now '--retry-held'" in err) == (option == "--again")
    assert sampan.batch(FEED)["state"] == "loaded"
    assert run("gate", FEED)[0] == 1


def test_the_page_of_the_gates_counts_the_rows_that_break_a_warning(partner, run, tmp_path):
    feed = "comtrade_mirror_imports"
    given = rows(feed, 20)
    bad = [row | {"cif_usd": "1", "value_usd": "2"} for row in given[:3]] + given[3:]
    partner.puts(feed, DAY, "delivery", encode(get_contract(feed), bad))
    assert partner.ingest(feed)["rows_published"] == 20
    code, _, err = run("data-docs", str(tmp_path / "docs"))
    assert (code, "Traceback" in err) == (0, False)
    assert "is now 'status-page FOLDER/index.html'" in err
    page = (tmp_path / "docs" / "gates.html").read_text()
    assert f"{feed}: value_is_cif" in page
    assert "no row breaks it" in page
    assert "(3)" in page
    assert "cif_usd is null or cif_usd = value_usd" in page


def test_contracts_check_counts_them_when_they_are_in_order(run):
    code, out, _ = run("contracts", "check")
    assert (code, out) == (0, f"{len(FEEDS)} contracts are valid.\n")
    assert run("contracts", "list")[0] == 0


def test_contracts_check_returns_1_with_file_and_line_when_one_is_wrong(run, tmp_path):
    file = tmp_path / f"{FEED}.yaml"
    shutil.copy(FOLDER / f"{FEED}.yaml", file)
    file.write_text(file.read_text().replace("name: hkhs_code", "name: HKHS Code", 1))
    code, out, err = run("contracts", "check", str(file))
    assert code == 1
    (line,) = [n for n, text in enumerate(file.read_text().splitlines(), 1) if "HKHS Code" in text]
    assert f"{file}:{line}: " in out
    assert "Traceback" not in err
    code, out, err = run("contracts", "check", str(tmp_path / "no_such.yaml"))
    assert code == 1
    assert "Traceback" not in err
