"""The lineage of the world's release as OpenLineage events, from a partner's file to a mart's column to a page.

The path of one column is written out by hand; the whole release is looked at slowly.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest
from sampan.contracts.derive import mart_models
from sampan.contracts.registry import all_contracts
from sampan.errors import PermanentFailure, TransientFailure
from sampan.report import answers, lineage
from sampan.report.questions import all_questions
from sampan.settings import HOME, settings

from tests.integration.world import Simulated

pytestmark = pytest.mark.xdist_group("world")
PAGE, MART = "02-exports", "mart_exports_monthly"
# The walk of one column (docs/architecture.md), backwards: each is made from the next.
WALK = (
    "marts.mart_exports_monthly.value_hkd",
    "marts.mart_sme_trade_monthly.value_hkd",
    "intermediate.int_trade__monthly.value_hkd",
    "intermediate.int_customs__lines_versioned.value_hkd",
    "staging.stg_customs__declarations.value_hkd",
    "raw.customs_declarations.value_hkd",
)
FILE = "customs/customs_declarations"


class Received:
    """A receiver of events on loopback: what it was sent, and what it answers."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.answers: list[int] = []

    @contextmanager
    def listening(self) -> Iterator[str]:
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = received.answers.pop(0) if received.answers else 201
                if status == 201:
                    received.events.append(json.loads(body) | {"path": self.path})
                    received.keys.add(self.headers.get("authorization"))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_address[1]}"
            server.shutdown()


@pytest.fixture
def release(world: Simulated) -> Iterator[int]:
    """The number of the world's release, in its installation."""
    with world.installed():
        number = answers.live()
        assert number is not None
        yield number


@pytest.fixture
def few(release: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """The release with only the models of the walk: the whole takes a minute."""
    every = lineage.compiled(lineage.columns_of_release(release))
    tables = [column.rpartition(".")[0] for column in WALK[:-1]]
    monkeypatch.setattr(lineage, "compiled", lambda _: {table: every[table] for table in tables})
    return release


def written(release: int) -> list[dict[str, Any]]:
    count, file = lineage.send(release)
    assert file is not None
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(found) == count
    return found


def outputs(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By name what the events write. Names of the warehouse are `<database>.<schema>.<table>`, without the database here."""
    return {name(dataset): dataset for event in events for dataset in event["outputs"]}


def name(dataset: dict[str, Any]) -> str:
    own = dataset["namespace"].startswith("postgres://")
    return dataset["name"].split(".", 1)[1] if own else f"{dataset['namespace']} {dataset['name']}"


def sources(events: list[dict[str, Any]], column: str) -> set[str]:
    """The columns that one is made from, as the event of its table says."""
    table, _, field = column.rpartition(".")
    fields = outputs(events)[table]["facets"]["columnLineage"]["fields"]
    return {f"{name(item)}.{item['field']}" for item in fields[field]["inputFields"]}


def test_a_column_of_a_page_leads_back_to_the_partner_s_file(few):
    events = written(few)
    by_job = {event["job"]["name"]: event for event in events}
    page = by_job[f"report.{PAGE}"]
    assert [name(item) for item in page["outputs"]] == [f"sampan:report {PAGE}"]
    assert f"marts.{MART}" in {name(item) for item in page["inputs"]}
    for made, of in pairwise(WALK):
        assert of in sources(events, made), f"{made} is made from {of}"
    ingest = by_job["ingest.customs_declarations"]
    assert [name(item) for item in ingest["inputs"]] == [f"s3://{settings().landing_bucket} {FILE}"]
    assert [name(item) for item in ingest["outputs"]] == ["raw.customs_declarations"]
    assert ingest["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] > 0
    assert str(HOME) not in json.dumps(events), "no path of the machine goes out"


def test_names_and_runs_are_the_same_whenever_a_release_is_sent(few):
    first = written(few)
    assert written(few) == first
    assert not [text for text in map(json.dumps, first) if f"release_{few}" in text]


def test_events_arrive_over_http_as_they_are_in_the_file(few, monkeypatch):
    expected = written(few)
    made = lineage.events(few)
    monkeypatch.setattr(lineage, "events", lambda _: made)
    receiver = Received()
    # One that is busy is asked again.
    receiver.answers = [201, 503]
    with receiver.listening() as url:
        monkeypatch.setenv("OPENLINEAGE_URL", url)
        monkeypatch.setenv("OPENLINEAGE_API_KEY", "a-key-of-the-catalogue")
        assert lineage.send(few) == (len(expected), None)
    assert {event.pop("path") for event in receiver.events} == {"/api/v1/lineage"}
    assert receiver.events == expected
    assert receiver.keys == {"Bearer a-key-of-the-catalogue"}


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, PermanentFailure, "answered 401"),
        (404, PermanentFailure, "answered 404"),
        (429, TransientFailure, "answered 429"),
    ],
)
def test_a_receiver_that_refuses_is_told_of_by_its_answer(few, monkeypatch, status, kind, words):
    monkeypatch.setattr(lineage, "compiled", lambda _: {})
    receiver = Received()
    receiver.answers = [status] * 9
    with receiver.listening() as url:
        monkeypatch.setenv("OPENLINEAGE_URL", url)
        with pytest.raises(kind, match=words):
            lineage.send(few)
    assert receiver.events == []


def test_a_receiver_that_is_away_is_tried_again_later(few, monkeypatch):
    monkeypatch.setattr(lineage, "compiled", lambda _: {})
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    with pytest.raises(TransientFailure, match="could not be reached"):
        lineage.send(few)


@pytest.mark.slow
def test_every_name_of_a_whole_release_is_written_by_one_job_and_every_page_leads_back_to_files(release):
    events = written(release)
    made = outputs(events)
    jobs = [event["job"]["name"] for event in events]
    assert len(set(jobs)) == len(jobs)
    assert {f"report.{question.name}" for question in all_questions()} <= set(jobs)
    assert {f"marts.{model['name']}" for model in mart_models()} <= set(made)
    read = {name(item) for event in events for item in event["inputs"]}
    landed = {
        f"s3://{settings().landing_bucket} {contract.partner}/{feed}" for feed, contract in all_contracts().items()
    }
    # What no job of the build writes: the ledger and the rows of seeds.
    seeds = {f"intermediate.{path.stem}" for path in (HOME / "dbt_project" / "seeds").rglob("*.csv")}
    unmade = {item for item in read - set(made) - landed - seeds if not item.startswith(("ops.", "quarantine."))}
    assert unmade == set()
    models = (path.read_text() for path in (HOME / "dbt_project" / "models").rglob("*.sql"))
    estimated = {f"ops.{table}" for text in models for table in re.findall(r"of_open_build\('(\w+)'\)", text)}
    assert estimated
    inputs = {name(event["outputs"][0]): {name(item) for item in event["inputs"]} for event in events}
    for question in all_questions():
        seen, waiting = set[str](), [f"sampan:report {question.name}"]
        while waiting:
            new = inputs.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        # What Python estimates is known from the table on that it wrote (ADR 0047).
        assert seen & (landed | estimated), f"{question.name} leads to no file"
