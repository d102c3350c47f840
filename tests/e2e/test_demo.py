"""`make demo` on a stack of its own, smaller: deliveries to released marts through the real Airflow scheduler."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from decimal import Decimal
from email.message import Message
from itertools import product
from pathlib import Path

import httpx
import psycopg
import pytest
from rich.console import Console
from sampan.contracts.registry import all_contracts
from sampan.report.questions import all_questions

from infra.local import airflow, people
from infra.local.config import HOME, PORTS, WEED_PORTS, free_port, load
from infra.local.demo import REFRESH, WORLD, Demo, Outcome
from infra.local.stack import INIT, Stack
from infra.simulator.orders import Order
from tests.browser import WIDTHS, browsing, chromium, tab
from tests.conftest import memory
from tests.integration.infra.test_stack import MAY_KNOW, secrets_known

CHINESE = re.compile("[\u4e00-\u9fff]")
PICTURES = Path(__file__).resolve().parents[2] / ".sampan" / "pictures" / "airflow"
SERVED = {feed for feed, contract in all_contracts().items() if contract.source.kind == "api"}
# Read under a consent, by the role of the bank that has it.
BANKS_ONLY = {"mart_credit_features"}
# Nothing was shared with anybody.
NOTHING_YET = {"mart_transfers"}
# Columns that a floor keeps empty in a demo of 29 months and 2,000 enterprises, by question: whether sales moved alike
# before, which takes 20 exporters with 12 months on record before they applied; ratios with fewer than 10 years of cover that
# have been over for a year; means of fewer than 10 first exports to one market; shops that won or lost a mark; cost of
# an effect that is not told.
BELOW_THE_FLOOR = {9: {10, 11}, 12: {5, 9, 11, 12}, 27: {5}, 32: {7, 8, 9}, 33: {12}}

# Every feed, some of it faulty, in half a year of a few enterprises: what Airflow does is the same, and takes less time.
SMALL = replace(WORLD, smes=600, history_from=date(2026, 2, 1))
# It has too few for a mean of those that applied in one month.
NOTHING_YET_IN_SMALL = NOTHING_YET | {"mart_funding_outcome_months"}


@contextmanager
def stack_of_its_own(**variables: str) -> Iterator[Stack]:
    """A stack on free ports, stopped in the end."""
    ports = {key: str(free_port(WEED_PORTS if key == "SAMPAN_S3_PORT" else 1)) for key in PORTS}
    # Its servers write durably, and no one waits for a disk in memory.
    with tempfile.TemporaryDirectory(prefix="sampan-demo-", dir=memory(), ignore_cleanup_errors=True) as folder:
        stack = Stack(load({"SAMPAN_STATE": str(Path(folder) / "state"), **ports, **variables}))
        try:
            yield stack
        finally:
            stack.down()


@pytest.fixture
def stack() -> Iterator[Stack]:
    with stack_of_its_own() as stack:
        yield stack


def run(stack: Stack, order: Order = WORLD) -> tuple[Outcome, str]:
    """What the demo came to, and what it printed."""
    out = io.StringIO()
    outcome = Demo(Console(file=out, width=160), stack, order).run()
    return outcome, out.getvalue()


def tick(stack: Stack) -> Outcome:
    """What the ledger and the readers' schema hold after the next business day."""
    return Demo(Console(file=io.StringIO(), width=160), stack).tick()


def planted(stack: Stack) -> dict[str, Counter[str]]:
    """What the simulator knows that it dropped, by feed; the same content delivered twice counts once."""
    totals: dict[str, Counter[str]] = {}
    seen = set()
    for line in (stack.config.state / "truth" / "planted.jsonl").read_text().splitlines():
        entry = json.loads(line)
        content = (entry["feed"], entry["business_date"], entry.get("sha256"))
        if entry["feed"] in SERVED or "sha256" not in entry or content in seen:
            continue
        seen.add(content)
        counts = totals.setdefault(entry["feed"], Counter())
        counts["batches"] += 1
        if entry["expected"] == "published":
            for name in ("rows_published", "rows_quarantined", "rows_duplicate"):
                counts[name] += entry[name]
    return totals


def assert_agrees_with_truth(stack: Stack, outcome: Outcome) -> None:
    truth = planted(stack)
    ledger = {
        feed: {"batches": batches, "rows_published": rows, "rows_quarantined": bad, "rows_duplicate": twice}
        for feed, batches, rows, bad, twice, _ in outcome.feeds
    }
    assert ledger.keys() == all_contracts().keys()
    served = {feed: ledger.pop(feed) for feed in SERVED}
    assert all(counts["rows_published"] > 0 for counts in served.values()), served
    assert len(ledger) >= 19
    names = ("batches", "rows_published", "rows_quarantined", "rows_duplicate")
    assert ledger == {feed: {name: counts[name] for name in names} for feed, counts in truth.items()}


def assert_marts_are_there(stack: Stack, outcome: Outcome, empty: set[str] = NOTHING_YET) -> None:
    assert len(outcome.marts) >= 30
    with psycopg.connect(stack.dsn("bi_reader")) as connection:
        query = "select has_table_privilege('bi_reader', 'marts.' || quote_ident(%s), 'select')"
        readable = {mart for mart, _ in outcome.marts if connection.execute(query, [mart]).fetchone() == (True,)}
        assert {mart for mart, _ in outcome.marts} - readable == BANKS_ONLY
        assert {mart for mart, rows in outcome.marts if not rows} == empty
        for mart, rows in outcome.marts:
            if mart in BANKS_ONLY:
                continue
            assert connection.execute(f"select count(*) from marts.{mart}").fetchone() == (rows,), mart


def assert_all_came_in_time(stack: Stack) -> None:
    """Kind of fault: receipts carry the time of the machine, and the demo says that everything was late."""
    late = "select feed, sum(rows_late), count(*) filter (where state = 'arrived') from ops.feed_day group by feed"
    planted = [json.loads(line) for line in (stack.config.state / "truth" / "planted.jsonl").read_text().splitlines()]
    # Late by two days, so broken that the correction came too late, or replaced by the same under the same name.
    events = {"late", "held", "truncated", "renamed", "resent"}
    expected = {entry["feed"] for entry in planted if set(entry["events"]) & events}
    with psycopg.connect(stack.dsn("sampan_loader")) as connection:
        rows = connection.execute(late).fetchall()
    assert len(rows) == len(all_contracts())
    assert {feed for feed, count, _ in rows if count} <= expected
    assert any(count for _, count, _ in rows)
    assert all(arrived for _, _, arrived in rows)


def assert_every_question_is_answered(stack: Stack) -> None:
    """Each documented query gives rows, with no column without any value but for floors, and not only zeros."""
    silent = {}
    with psycopg.connect(stack.dsn("bi_reader")) as connection:
        for section in all_questions():
            rows = connection.execute(section.query).fetchall()
            values = list(zip(*rows, strict=True))
            numbers = [value for row in rows for value in row if isinstance(value, int | float | Decimal)]
            empty = {place for place, column in enumerate(values) if all(value is None for value in column)}
            empty -= BELOW_THE_FLOOR.get(section.number, set())
            if not rows or empty or not any(numbers):
                silent[section.number] = f"{len(rows)} rows, columns without a value: {empty}"
    assert silent == {}


def assert_answers_are_pages(stack: Stack, outcome: Outcome, printed: str) -> None:
    """The address that the demo ends with leads to pages, one for every question, and the store has them too."""
    folder = stack.config.state / "reports" / f"release_{outcome.release}"
    assert f"file://{folder}/en/index.html" in printed.replace("\n", "")
    assert len(list(folder.glob("*/[0-9]*.html"))) == 2 * len(all_questions())
    assert "Synthetic data" in (folder / "en" / "index.html").read_text("utf-8")
    kept = stack.s3.client().list_objects_v2(Bucket="reports", Prefix=f"release_{outcome.release}/en/")
    assert f"release_{outcome.release}/en/index.html" in [item["Key"] for item in kept["Contents"]]


def assert_everybody_has_a_door(stack: Stack, printed: str) -> None:
    """The demo ends with where each person looks; the logins open the desks, and passwords are not printed."""
    found = people.known(stack.config.state)
    assert set(found) == set(people.wanted(stack.config["SAMPAN_WAREHOUSE_DSN"]))
    assert stat.S_IMODE((stack.config.state / people.FILE).stat().st_mode) == 0o600
    assert "make logins" in printed
    work = {
        "sampan": "Held deliveries", "steward": "Your feeds", "bank": "Consents", "policy": "Answers", "bi": "Answers",
    }  # fmt: skip
    seen = set()
    for person in found.values():
        assert person.login in printed
        assert person.password not in printed
        with httpx.Client(base_url=stack.config.desk_url, follow_redirects=True, timeout=30) as desk:
            home = desk.post("/en/sign-in", data={"login": person.login, "password": person.password})
            kind = person.reads.partition("_")[0]
            assert home.status_code == 200
            assert work[kind] in home.text
            seen.add(kind)
    assert seen == set(work)


def run_states(api: airflow.Api) -> dict[str, str]:
    """What became of each DAG's runs, of the demo's and of those whose time came meanwhile: `failed` when one failed.

    The scheduler closes a run a moment after its last task.
    """
    deadline = time.monotonic() + 60
    while True:
        runs = api.get("dags/~/dagRuns?limit=200")["dag_runs"]
        # The worst state last. The demo does not run the deletion of old data; `watch`, `requests` and `decide` run at any
        # time.
        runs = sorted(runs, key=lambda run: ("success", "queued", "running", "failed").index(run["state"]))
        states = {
            run["dag_id"]: run["state"]
            for run in runs
            if run["dag_id"] not in {"maintain_retention", "watch", "requests", "decide"}
        }
        if not {"queued", "running"} & set(states.values()) or time.monotonic() > deadline:
            return states
        time.sleep(1)


def assert_assets_say_how_much_came(stack: Stack, outcome: Outcome) -> None:
    """Events of feeds and of marts have counts, which are those of the ledger and of the release."""
    api = airflow.Api(stack.config)
    events = api.get("assets/events?limit=500&order_by=timestamp")["asset_events"]
    found: dict[str, int] = Counter()
    for event in events:
        found[event["name"]] += (event["extra"] or {}).get("rows", 0)
    published = {feed: rows for feed, _, rows, *_ in outcome.feeds if rows}
    assert {feed: found[feed] for feed in published} == published
    assert {mart: found[mart] for mart, _ in outcome.marts} == dict(outcome.marts)


def assert_an_idle_refresh_is_skipped(stack: Stack) -> None:
    """With nothing to build, a run ends with its first task, and no build is opened."""

    def builds() -> int | None:
        with psycopg.connect(stack.dsn("sampan_loader")) as connection:
            row = connection.execute("select max(build_no) from ops.build").fetchone()
        return row[0] if row else None

    before, api, deadline = builds(), airflow.Api(stack.config), time.monotonic() + 60
    api.call("POST", f"dags/{REFRESH}/dagRuns", {"dag_run_id": "idle", "logical_date": None})
    while api.get(f"dags/{REFRESH}/dagRuns/idle")["state"] in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(0.5)
    assert api.get(f"dags/{REFRESH}/dagRuns/idle")["state"] == "success"
    tasks = api.get(f"dags/{REFRESH}/dagRuns/idle/taskInstances?limit=100")["task_instances"]
    assert {task["task_id"] for task in tasks} >= {"await_ingest", "staging", "release"}
    assert {task["state"] for task in tasks} == {"skipped"}
    assert before
    assert builds() == before


def assert_a_decision_in_airflow_is_carried_out(stack: Stack) -> None:
    """What is undecided is among the Required Actions; a proposed link is rejected there, with reason and name."""
    api, deadline = airflow.Api(stack.config), time.monotonic() + 300
    # It runs after each release and every ten minutes; what was held meanwhile is asked now.
    api.call("POST", "dags/watch/dagRuns", {"dag_run_id": "now", "logical_date": None})
    with psycopg.connect(stack.dsn("sampan_loader"), autocommit=True) as connection:
        query = "select batch_id from ops.open_problem where batch_id is not null"
        batches = {f"batch-{number}" for (number,) in connection.execute(query)}
        query = "select review_id from ops.identity_review where state = 'open'"
        proposals = {f"proposal-{number}" for (number,) in connection.execute(query)}
        assert proposals
        waiting: dict[str, str] = {}
        while time.monotonic() < deadline and not (batches <= set(waiting) and proposals & set(waiting)):
            time.sleep(2)
            details = api.get("dags/decide/dagRuns/~/hitlDetails?limit=100")["hitl_details"]
            run_ids = [item["task_instance"]["dag_run_id"] for item in details]
            waiting = {run_id.partition("__")[0]: run_id for run_id in run_ids}
        assert batches <= set(waiting)
        chosen = min(proposals & set(waiting))
        # Airflow takes an answer within a second of the question for one to a task that still runs.
        time.sleep(5)
        answer = {"chosen_options": ["Reject"], "params_input": {"reason": "another shop of that name"}}
        run = f"dags/decide/dagRuns/{waiting[chosen]}"
        api.call("PATCH", f"{run}/taskInstances/decide/-1/hitlDetails", answer)
        query = "select state, action, requested_by, reason, outcome from ops.request where subject ->> 'run_id' = %s"
        asked: tuple[str, ...] | None = None
        while time.monotonic() < deadline and (asked is None or asked[0] == "waiting"):
            time.sleep(1)
            asked = connection.execute(query, [waiting[chosen]]).fetchone()
        assert asked is not None
        assert asked[:4] == ("done", "reject_proposal", airflow.USER, "another shop of that name"), asked
        query = "select state from ops.identity_review where review_id = %s"
        assert connection.execute(query, [chosen.removeprefix("proposal-")]).fetchone() == ("rejected",)
    # What is decided elsewhere leaves the list, without anybody's answer.
    other = max(proposals & set(waiting))
    assert other != chosen
    number = other.removeprefix("proposal-")
    command = ["-m", "sampan.cli", "identity", "review", "reject", number, "--reason", "seen in the register"]
    subprocess.run([sys.executable, *command], cwd=HOME, env=stack.environment(INIT), check=True, capture_output=True)
    asked_again = f"dags/decide/dagRuns/{waiting[other]}"
    while (state := api.get(asked_again)["state"]) == "running" and time.monotonic() < deadline:
        time.sleep(1)
    answer = api.get(f"{asked_again}/taskInstances/decide/-1/hitlDetails")
    assert (state, answer["chosen_options"], answer["responded_by_user"]) == ("success", ["Leave it open"], None)


def assert_airflow_shows_what_is_broken_and_undecided(stack: Stack) -> None:
    """Pages of Airflow that the platform fills, in a real browser where there is one, at both widths and in both languages.

    No error, and nothing from outside.
    """
    if chromium() is None:
        return
    PICTURES.mkdir(parents=True, exist_ok=True)
    base = airflow.address(stack.config)
    pages = {
        "home": "/", "broken": "/plugin/broken", "gates": "/plugin/gates", "undecided": "/required_actions",
        "decide": "/dags/decide", "assets": "/assets", "ingest": "/dags/ingest__customs_declarations",
    }  # fmt: skip
    with browsing() as browser:
        for width, language in product(WIDTHS, ("en", "zh-TW")):
            page, seen = tab(browser, width, base)
            page.add_init_script(f"localStorage.setItem('i18nextLng', '{language}')")
            page.goto(f"{base}/auth/login")
            page.fill('input[name="username"]', airflow.USER)
            page.fill('input[type="password"]', stack.config["SAMPAN_AIRFLOW_PASSWORD"])
            page.keyboard.press("Enter")
            page.wait_for_url(f"{base}/")
            for name, path in pages.items():
                page.goto(base + path, wait_until="networkidle")
                if language == "zh-TW" and name == "home":
                    # The words of the language come after the page.
                    page.get_by_text(CHINESE).first.wait_for()
                page.screenshot(path=PICTURES / f"{name}-{language}-{width}.png")
                if name in ("broken", "gates"):
                    heading = page.frame_locator("iframe").get_by_role("heading", level=1)
                    assert heading.inner_text().startswith("Sampan")
                if language == "en" and name == "home":
                    assert not CHINESE.search(page.inner_text("body"))
            # A page that is left drops what it still asks for.
            errors = [error for error in seen.errors if not error.endswith("ERR_ABORTED")]
            assert (errors, seen.outside) == ([], []), f"{language} at {width}"


def assert_airflow_tells_strangers_nothing(stack: Stack) -> None:
    """Kind of fault: a web server describes itself to who has not logged in, and lets other pages frame its own."""

    def ask(path: str, token: str = "") -> tuple[int, Message]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(airflow.address(stack.config) + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.headers
        except urllib.error.HTTPError as error:
            return error.code, error.headers

    token = airflow.Api(stack.config).token
    hidden = [f"{app}/{page}" for app in ("", "/auth", "/execution") for page in ("openapi.json", "docs", "redoc")]
    assert {path: ask(path, token)[0] for path in hidden} == dict.fromkeys(hidden, 404)
    assert [ask("/api/v2/version")[0], ask("/api/v2/version", "x")[0], ask("/api/v2/version", token)[0]] == [
        404,
        404,
        200,
    ]
    # Written after the release by `watch`, which may still be at it.
    written, deadline = stack.config.state / "status" / "index.html", time.monotonic() + 120
    while not written.is_file() and time.monotonic() < deadline:
        time.sleep(1)
    assert [ask("/sampan/status/")[0], ask("/sampan/status/", token)[0]] == [404, 200]
    assert "frame-ancestors 'self'" in ask("/sampan/status/", token)[1]["Content-Security-Policy"]
    for path, code in {"/auth/login": 200, "/": 200, "/api/v2/dags": 401, "/openapi.json": 404}.items():
        status, headers = ask(path)
        assert status == code, path
        assert headers["X-Frame-Options"] == "DENY", path
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"], path


@pytest.mark.timeout(2400)
def test_demo_releases_what_the_partners_delivered(stack: Stack) -> None:
    first, text = run(stack, SMALL)
    assert_agrees_with_truth(stack, first)
    assert_marts_are_there(stack, first, NOTHING_YET_IN_SMALL)
    assert_all_came_in_time(stack)
    assert_answers_are_pages(stack, first, text)
    assert_everybody_has_a_door(stack, text)
    assert first.release == 1
    assert "What came out: release 1" in text
    assert all(feed in text for feed, *_ in first.feeds)
    assert "Nothing was new" not in text

    assert_airflow_tells_strangers_nothing(stack)
    for program in airflow.commands(stack.config):
        assert secrets_known(stack, program) == MAY_KNOW[program], program

    states = run_states(airflow.Api(stack.config))
    with psycopg.connect(stack.dsn("sampan_loader")) as connection:
        was_held = {feed for (feed,) in connection.execute("select feed from ops.batch where state = 'held'")}
        # One that a later delivery replaced in the same run is not open.
        held = {feed for (feed,) in connection.execute("select feed from ops.open_problem")}
        told = {feed for (feed,) in connection.execute("select feed from ops.alert where kind = 'held'")}
    assert was_held
    assert told == held <= was_held
    assert states == {f"ingest__{feed}": "failed" if feed in held else "success" for feed, *_ in first.feeds} | {
        REFRESH: "success"
    }
    assert_assets_say_how_much_came(stack, first)
    assert_an_idle_refresh_is_skipped(stack)
    assert_a_decision_in_airflow_is_carried_out(stack)
    assert_airflow_shows_what_is_broken_and_undecided(stack)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_demo_answers_every_question_and_ten_days_in_a_row_begin_and_end_with_a_release(stack: Stack) -> None:
    """With the faults of each day: deliveries truncated, held, late, missing, sent again, amended."""
    outcome, text = run(stack)
    assert_agrees_with_truth(stack, outcome)
    assert_marts_are_there(stack, outcome)
    assert_all_came_in_time(stack)
    assert_every_question_is_answered(stack)
    assert_answers_are_pages(stack, outcome, text)
    home = stack.config.state / "reports" / f"release_{outcome.release}" / "en" / "index.html"
    assert "No answer" not in home.read_text("utf-8")
    for _ in range(10):
        before, outcome = outcome, tick(stack)
        # What twenty feeds and more delivered of a day is one build and one release.
        assert outcome.release == before.release + 1
        assert_agrees_with_truth(stack, outcome)
    assert_marts_are_there(stack, outcome)
    assert_all_came_in_time(stack)
    assert_every_question_is_answered(stack)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_demo_ends_the_same_when_every_program_is_killed_while_it_runs_and_changes_nothing_the_second_time(
    stack: Stack,
) -> None:
    """Each program is killed once, 15 seconds apart, from the moment that the first task runs."""
    stack.up(report=lambda _: None)
    killed: list[str] = []

    def kill() -> None:
        with psycopg.connect(airflow.database(stack.config), autocommit=True) as connection:
            while connection.execute("select 1 from task_instance where state = 'running'").fetchone() is None:
                time.sleep(0.5)
        for name in ("postgres", "scheduler", "api-server", "s3", "dag-processor", "triggerer"):
            time.sleep(15)
            os.kill(stack.supervisor.states()[name]["pid"], signal.SIGKILL)
            killed.append(name)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    outcome, _ = run(stack)
    killer.join(120)
    assert len(killed) == 6
    assert_agrees_with_truth(stack, outcome)
    assert_marts_are_there(stack, outcome)
    second, text = run(stack)
    assert second == outcome
    assert "Nothing was new" in text
