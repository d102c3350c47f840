"""The DAGs as Airflow sees them, against the contracts and the dbt project that they are derived from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sampan.contracts import shorthand

from infra.local import airflow
from infra.local.config import load

# One worker runs them all: they share a parse of the DAGs.
pytestmark = pytest.mark.xdist_group("dags")

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "dags"
CONTRACTS = sorted((ROOT / "expectations" / "feeds").glob("*.yaml"))
FEEDS = [path.stem for path in CONTRACTS]
CHAIN = ("fetch", "land", "load", "gate", "publish", "lake", "notify_owner")
SPINE = ("await_ingest", "staging", "identity", "intermediate")
FAMILIES = [f"marts__{path.name}" for path in sorted((ROOT / "dbt_project/models/marts").iterdir()) if path.is_dir()]
HEAVY = {"boto3", "dbt", "duckdb", "great_expectations", "isal", "pandas", "polars", "pyarrow", "splink"}

BROKEN = {
    "syntax.py": "def (",
    "missing_module.py": "import nowhere_to_be_found",
    "asks_the_network.py": "import socket\nsocket.create_connection(('127.0.0.1', 9))",
    "cycle.py": (
        "from airflow.sdk import DAG\nfrom airflow.providers.standard.operators.empty import EmptyOperator\n"
        "with DAG('cycle'):\n    a, b = EmptyOperator(task_id='a'), EmptyOperator(task_id='b')\n    a >> b >> a\n"
    ),
}


def parse(state: Path, seed: str, *folders: Path) -> subprocess.Popen[str]:
    config = load({"SAMPAN_STATE": str(state)})
    environment = os.environ | airflow.environment(config) | {"PYTHONHASHSEED": seed}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    command = [sys.executable, str(Path(__file__).with_name("parse_dags.py")), *map(str, folders)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes, with different hash seeds, make of the DAG folder; the first then parses a broken one too."""
    state, planted = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("planted") / "dags"
    shutil.copytree(DAGS, planted, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in BROKEN.items():
        # Airflow reads only files that speak of both.
        (planted / name).write_text(f"# airflow dag\n{text}")
    processes = [parse(state, "1", DAGS, planted), parse(state, "2", DAGS)]
    answers = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        answers.append(json.loads(out.rsplit("\n", 2)[-2]))
    return answers


@pytest.fixture(scope="module")
def dags(parsed: list[dict[str, Any]]) -> dict[str, Any]:
    return parsed[0]["folders"][0]["dags"]


def edges(dag: dict[str, Any]) -> set[tuple[str, str]]:
    return {(name, after) for name, task in dag["tasks"].items() for after in task["downstream"]}


def contract(feed: str) -> dict[str, Any]:
    return shorthand.read(ROOT / "expectations" / "feeds" / f"{feed}.yaml")


def days_of(calendar: dict[str, Any]) -> tuple[str, str, str]:
    """Day of the month, month and day of the week of a feed's runs."""
    # A delivery due on a holiday comes on a later business day, and an API may be away on its day: one run a month would
    # be too early, or miss the month.
    return ("*", "*", "*" if calendar["days"] in ("daily", "event") else "1-5")


def test_calendars_of_every_kind_are_among_the_feeds() -> None:
    kinds = set()
    for wanted in map(contract, FEEDS):
        calendar = next(item["value"] for item in wanted["customProperties"] if item["property"] == "calendar")
        kinds.add((wanted["servers"][0]["type"], calendar["days"]))
    assert {("s3", "business"), ("s3", "weekly"), ("s3", "monthly"), ("api", "weekly"), ("api", "monthly")} <= kinds


def test_dag_folder_parses_without_errors(parsed: list[dict[str, Any]]) -> None:
    bag = parsed[0]["folders"][0]
    assert bag["import_errors"] == {}
    assert bag["files"] == sorted(path.name for path in DAGS.glob("*.py"))
    assert len(bag["files"]) >= 2


def test_every_contract_has_its_dag_and_nothing_else_has_one(dags: dict[str, Any]) -> None:
    assert set(dags) == {f"ingest__{feed}" for feed in FEEDS} | {
        "refresh_marts", "maintain_retention", "requests", "watch", "decide",
    }  # fmt: skip
    assert len(dags) == len(CONTRACTS) + 5


@pytest.mark.parametrize("feed", FEEDS)
def test_ingest_is_the_lifecycle_in_its_order(dags: dict[str, Any], feed: str) -> None:
    dag = dags[f"ingest__{feed}"]
    assert set(dag["tasks"]) == set(CHAIN)
    assert edges(dag) == set(pairwise(CHAIN))


@pytest.mark.parametrize("feed", FEEDS)
def test_ingest_takes_what_it_is_from_the_contract(dags: dict[str, Any], feed: str) -> None:
    dag, wanted = dags[f"ingest__{feed}"], contract(feed)
    calendar = next(item["value"] for item in wanted["customProperties"] if item["property"] == "calendar")
    timetable = dag["serialised"]["dag"]["timetable"]["__var"]
    hour, minute = map(int, calendar["due"].split(":"))
    assert timetable["expressions"][0].split()[:2] == [str(minute), str(hour)]
    days = {tuple(expression.split()[2:]) for expression in timetable["expressions"]}
    assert days == {days_of(calendar)}
    assert timetable["timezone"] == calendar["timezone"]
    assert {task["owner"] for task in dag["tasks"].values()} == {wanted["team"]["name"]}
    assert wanted["schema"][0]["dataGranularityDescription"] in dag["doc_md"]
    assert all(link.startswith("mailto:") and "@" in link for link in dag["owner_links"].values())
    assert set(dag["owner_links"]) == {wanted["team"]["name"]}
    assert set(dag["tags"]) > {"ingest"}
    assert dag["max_active_runs"] == 1
    assert dag["tasks"]["publish"]["outlets"] == [f"x-sampan://raw/{feed}"]
    (deadline,) = dag["serialised"]["dag"]["deadline"]
    callback = deadline["callback"]["__data__"]
    assert callback["path"] == "sampan.alerts.deadline_missed"
    assert callback["kwargs"]["feed"] == feed
    assert deadline["interval"]["__data__"] == callback["kwargs"]["minutes"] * 60 > 0


def test_refresh_builds_in_order_and_each_family_of_marts_by_itself(dags: dict[str, Any]) -> None:
    assert len(FAMILIES) >= 5
    chain = {*pairwise(SPINE), ("summary", "gate"), ("gate", "release"), ("release", "report")}
    fan = {(SPINE[-1], family) for family in FAMILIES}
    # The gate follows families too: without their summary it still goes on.
    fan |= {(family, after) for family in FAMILIES for after in ("summary", "gate")}
    assert edges(dags["refresh_marts"]) == chain | fan


@pytest.mark.parametrize("feed", FEEDS)
def test_a_step_that_held_a_delivery_or_failed_stops_no_other_delivery(dags: dict[str, Any], feed: str) -> None:
    """Kind of fault: the step that held a delivery is green, because the steps after it have to go on."""
    rules = {name: task["trigger_rule"] for name, task in dags[f"ingest__{feed}"]["tasks"].items()}
    after_held = dict.fromkeys(("load", "gate", "publish", "lake"), "none_skipped")
    assert rules == {"fetch": "all_success", "land": "all_success"} | after_held | {"notify_owner": "all_done"}


def test_watch_sends_alerts_and_writes_the_page_every_ten_minutes_and_after_each_release(dags: dict[str, Any]) -> None:
    assert edges(dags["watch"]) == {("undecided", "ask")}
    assert set(dags["watch"]["tasks"]) == {"send_alerts", "status_page", "undecided", "ask"}
    assert dags["refresh_marts"]["tasks"]["release"]["outlets"] == ["released_marts", "x-sampan://marts/release"]
    timetable = str(dags["watch"]["serialised"]["dag"]["timetable"])
    assert "*/10 * * * *" in timetable
    assert "x-sampan://marts/release" in timetable


def test_every_dag_has_a_name_for_people_that_says_which_feed_it_is_of(dags: dict[str, Any]) -> None:
    names = {dag_id: dag["serialised"]["dag"].get("dag_display_name") for dag_id, dag in dags.items()}
    assert None not in names.values()
    assert len(set(names.values())) == len(names)
    assert all(feed in names[f"ingest__{feed}"] for feed in FEEDS)


def test_every_task_says_what_to_do_when_it_is_red(dags: dict[str, Any]) -> None:
    """Kind of fault: the page of a task says so for one DAG, and an engineer on call looks for it at another in vain."""
    docs = {
        f"{dag_id}.{name}": task["doc_md"] or "" for dag_id, dag in dags.items() for name, task in dag["tasks"].items()
    }
    assert len(docs) > len(FEEDS) * len(CHAIN) + len(SPINE) + len(FAMILIES)
    assert [name for name, text in docs.items() if "**When red:**" not in text] == []


def test_many_decisions_are_asked_at_once_and_none_waits_for_another(dags: dict[str, Any]) -> None:
    """Kind of fault: a run that waits for a person keeps the next ones in the queue."""
    assert set(dags["decide"]["tasks"]) == {"decide"}
    assert dags["decide"]["max_active_runs"] >= 2 * 3 * 20


def test_requests_are_carried_out_as_soon_as_they_are_asked_and_feeds_that_they_published_have_news(
    dags: dict[str, Any],
) -> None:
    assert set(dags["requests"]["tasks"]) == {"carry_out"}
    assert dags["requests"]["tasks"]["carry_out"]["pool"] == "warehouse"
    timetable = str(dags["requests"]["serialised"]["dag"]["timetable"])
    assert "*/10 * * * *" in timetable
    assert "x-sampan://ops/request" in timetable
    assert "sampan_airflow.RequestTrigger" in str(dags["requests"]["serialised"])


def test_a_family_that_fails_stops_no_other_and_no_release(dags: dict[str, Any]) -> None:
    rules = {name: task["trigger_rule"] for name, task in dags["refresh_marts"]["tasks"].items()}
    going_on = {name for name, rule in rules.items() if rule == "all_done_min_one_success"}
    assert going_on == {"summary", "gate"}
    assert {rule for name, rule in rules.items() if name not in going_on} == {"all_success"}


def test_refresh_is_due_after_any_feed(dags: dict[str, Any]) -> None:
    timetable = json.dumps(dags["refresh_marts"]["serialised"]["dag"]["timetable"])
    assert [feed for feed in FEEDS if f"x-sampan://raw/{feed}" not in timetable] == []
    assert dags["refresh_marts"]["max_active_runs"] == 1


def test_tasks_retry_by_the_kind_of_failure_and_heavy_ones_share_the_pool(dags: dict[str, Any]) -> None:
    for dag_id, dag in dags.items():
        for name, task in dag["tasks"].items():
            assert task["has_retry_policy"], f"{dag_id}.{name}"
            assert task["retries"] == 5, f"{dag_id}.{name}"
            light = name in ("fetch", "land", "notify_owner", "await_ingest") or dag_id in ("watch", "decide")
            assert task["pool"] == ("default_pool" if light else "warehouse"), f"{dag_id}.{name}"
    assert set(airflow.POOLS) == {"warehouse"}


def test_the_owner_is_notified_regardless_of_the_outcome(dags: dict[str, Any]) -> None:
    rules = {dags[f"ingest__{feed}"]["tasks"]["notify_owner"]["trigger_rule"] for feed in FEEDS}
    assert rules == {"all_done"}


def test_planted_faults_are_caught(parsed: list[dict[str, Any]]) -> None:
    """The other tests would be green on an empty or unread folder; this one would not."""
    errors = parsed[0]["folders"][1]["import_errors"]
    assert set(errors) == set(BROKEN)
    assert "nowhere_to_be_found" in errors["missing_module.py"]
    assert "nothing is connected to" in errors["asks_the_network.py"]


def test_serialised_dags_are_the_same_in_every_process(parsed: list[dict[str, Any]]) -> None:
    """A DAG that serialises differently each time gets a new version at each parse."""
    first, second = (answer["folders"][0]["dags"] for answer in parsed)
    assert len(first) == len(FEEDS) + 5
    for dag_id, dag in first.items():
        assert dag["serialised"] == second[dag_id]["serialised"], dag_id


def test_a_task_makes_its_own_dag_only(parsed: list[dict[str, Any]]) -> None:
    assert parsed[0]["of_task"] == ["ingest__customs_declarations"]


def test_parsing_connects_to_nothing_and_imports_nothing_that_a_task_could(parsed: list[dict[str, Any]]) -> None:
    assert parsed[1]["connected"] == []
    imported = set(parsed[1]["folders"][0]["imported"])
    assert "sampan" in imported
    assert imported & HEAVY == set()


def test_library_is_not_loaded_as_plugins(parsed: list[dict[str, Any]]) -> None:
    """Airflow loads each file of its plugins folder under its bare name: ours would replace the standard `calendar`."""
    assert parsed[0]["plugin_errors"] == {}
    assert "sampan" not in parsed[0]["calendar"]
