"""Superset for real, on the simulated world: what each role sees, figures as SQL gives them, and pictures of every dashboard.

Needs `.venv-bi`, which `make bi` makes.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import httpx
import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sampan.report import superset
from sampan.report.dashboards import ANALYST, BANK, POLICY, Dashboard, all_dashboards, readers
from sampan.report.questions import all_questions
from sampan.report.words import LANGUAGES
from sampan.settings import settings

from infra.local.config import StackError, free_port
from infra.local.superset import Superset, installed
from tests.browser import WIDTHS, browsing
from tests.conftest import ROOT
from tests.integration.world import Simulated

PICTURES = ROOT / ".sampan" / "pictures" / "superset"
OWNER, PASSWORD = "sampan", "of-a-test-only"
PEOPLE = {POLICY: "demo_policy", ANALYST: "demo_analyst"}
# The counter that Superset's pages try to reach; the content security policy stops it.
COUNTER = "apachesuperset.gateway.scarf.sh"
NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?", re.IGNORECASE)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.xdist_group("world"),
    pytest.mark.skipif(not installed(), reason="Superset is not installed: `make bi` makes .venv-bi"),
]


class Person:
    """Someone who is logged in, as a program."""

    def __init__(self, server: Superset, name: str, password: str) -> None:
        self.client = httpx.Client(base_url=server.address, timeout=120)
        body = {"username": name, "password": password, "provider": "db"}
        token = self.client.post("/api/v1/security/login", json=body).raise_for_status().json()["access_token"]
        self.client.headers["Authorization"] = f"Bearer {token}"
        self.client.headers["X-CSRFToken"] = self.client.get("/api/v1/security/csrf_token/").json()["result"]
        self.client.headers["Referer"] = server.address

    @cached_property
    def datasets(self) -> dict[str, int]:
        """Ids by name of the datasets that the person sees."""
        found: dict[str, int] = {}
        for page in range(4):
            query = f"(page:{page},page_size:100,columns:!(id,table_name))"
            items = self.client.get("/api/v1/dataset/", params={"q": query}).raise_for_status().json()["result"]
            found |= {item["table_name"]: item["id"] for item in items}
        return found

    @cached_property
    def database(self) -> int:
        """The warehouse, as SQL Lab knows it; 0 for whom it is not open."""
        found = self.client.get("/api/v1/database/").json().get("result", ())
        return next(
            (item["id"] for item in found if item["database_name"] == superset.DATABASES[superset.WAREHOUSE]), 0
        )

    def count(self, kind: str) -> int:
        """How many dashboards, charts or datasets the person sees."""
        return int(self.client.get(f"/api/v1/{kind}/").raise_for_status().json()["count"])

    def rows(self, dataset: int, columns: list[str]) -> httpx.Response:
        """The rows of a dataset."""
        query = {"columns": columns, "metrics": [], "row_limit": 10_000, "orderby": []}
        body = {"datasource": {"id": dataset, "type": "table"}, "queries": [query], "result_format": "json"}
        return self.client.post("/api/v1/chart/data", json=body)

    def run(self, statement: str) -> httpx.Response:
        """A statement in SQL Lab."""
        body = {
            "database_id": self.database,
            "sql": statement,
            "client_id": f"{time.monotonic_ns() % 10**10:010}",
            "runAsync": False,
        }
        return self.client.post("/api/v1/sqllab/execute/", json=body)


@dataclass
class Running:
    """A Superset that answers, and its people."""

    server: Superset

    def person(self, name: str) -> Person:
        password = PASSWORD if name == OWNER else self.server.people()[name]["password"]
        return Person(self.server, name, password)


@pytest.fixture(scope="module")
def bi(world: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("superset")
    admin = world.environment["SAMPAN_WAREHOUSE_DSN"]
    parts, name = conninfo_to_dict(admin), f"superset_{folder.name.replace('-', '_')}_{free_port()}"
    warehouse = {"host": parts["host"], "port": int(parts["port"]), "database": parts["dbname"]}
    with psycopg.connect(admin, autocommit=True) as connection:
        role = sql.Identifier(name)
        connection.execute(sql.SQL("create role {} login password 'of-a-test'").format(role))
        connection.execute(sql.SQL("grant {} to current_user").format(role))
        connection.execute(sql.SQL("create database {} owner {} template template0").format(role, role))
    uri = f"postgresql+psycopg2://{name}:of-a-test@{parts['host']}:{parts['port']}/{name}"
    server = Superset(folder, free_port(), uri, warehouse, secret_key="k" * 40, password=PASSWORD)
    with pytest.MonkeyPatch.context() as patch, world.installed():
        patch.setenv("SAMPAN_SYNTHETIC", "yes")
        settings.cache_clear()
        environment = {**os.environ, **world.environment}
        server.add_demo(admin, environment, {})
        server.load(environment)
        # Once more, as after a change of a file: nothing is doubled.
        (folder / "loaded").unlink()
        server.load(environment)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            server.command, env={**os.environ, **server.environment}, cwd=folder, stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + 180
            while not server.answers():
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail((folder / "server.log").read_text()[-2000:])
                time.sleep(0.5)
            yield Running(server)
        finally:
            process.terminate()
            process.wait(30)
    with world.installed():
        for person in server.people():
            _command({**os.environ, **world.environment}, "roles", "drop-login", person)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(role))
        connection.execute(sql.SQL("drop role {}").format(role))


def _command(environment: dict[str, str], *arguments: str) -> None:
    from infra.local.superset import _sampan

    with suppress(StackError):
        _sampan(environment, *arguments)


def of(role: str) -> list[Dashboard]:
    return [dashboard for dashboard in all_dashboards() if role in readers(dashboard.sources)]


def test_a_bundle_loaded_twice_is_there_once_and_each_role_sees_its_part(bi: Running):
    assets = superset.assets()
    kinds = {kind: sum(name.startswith(f"{kind}s/") for name in assets) for kind in ("dashboard", "chart", "dataset")}
    owner = bi.person(OWNER)
    assert {kind: owner.count(kind) for kind in kinds} == kinds
    for role, name in PEOPLE.items():
        person = bi.person(name)
        assert person.count("dashboard") == len(of(role)) * len(LANGUAGES)
        wanted = {asset["table_name"] for asset in assets.values() if role in asset.get("extra", {}).get("readers", ())}
        assert person.datasets.keys() == wanted


def test_figures_are_those_of_sql(bi: Running, world: Simulated):
    analyst = bi.person(PEOPLE[ANALYST])
    for question in all_questions():
        rows = world.read(question.shown)
        asset = superset.assets_of(question, "en")
        columns = [c["column_name"] for c in asset["columns"] if c["type"] in ("NUMERIC", "TEXT")]
        columns = [column for column in columns if not column.startswith("chart_")]
        found = analyst.rows(analyst.datasets[asset["table_name"]], columns)
        assert found.status_code == 200, (question.number, found.text[:500])
        shown = [value for row in found.json()["result"][0]["data"] for value in row.values()]
        numbers = sorted(Decimal(str(value)) for value in shown if isinstance(value, (int, float)))
        wanted = sorted(
            Decimal(str(float(v)))
            for row in rows
            for v in row
            if isinstance(v, (int, float, Decimal)) and not isinstance(v, bool)
        )
        # Years and months are shown as text.
        assert numbers, question.number
        rest = list(wanted)
        for number in numbers:
            near = next((value for value in rest if abs(value - number) <= abs(number) * Decimal("1e-9")), None)
            assert near is not None, (question.number, number)
            rest.remove(near)


def test_no_one_gets_past_the_role_of_their_login(bi: Running):
    """The warehouse says no: to SQL that people write, and to datasets whose number they know."""
    analyst, policy, owner = bi.person(PEOPLE[ANALYST]), bi.person(PEOPLE[POLICY]), bi.person(OWNER)
    allowed = analyst.run("select count(*) as enterprises from marts.dim_sme")
    assert allowed.status_code == 200, allowed.text
    assert allowed.json()["data"][0]["enterprises"] > 100
    for statement in (
        "select * from ops.batch",
        "select * from marts.mart_credit_features",
        "select * from raw.customs_declarations",
        "set role sampan_builder",
        "set role bank_b001",
        "create table marts.mine (a int)",
        "delete from marts.dim_sme",
    ):
        answer = analyst.run(statement)
        assert answer.status_code >= 400, statement
        assert re.search("permission denied|must be|does not exist|DML|not allowed|read-only", answer.text), (
            answer.text[:500]
        )
    everything = owner.datasets
    assert policy.run("select 1").status_code in (401, 403, 404)
    for mart in ("dim_sme", "mart_sme_360", "mart_credit_features"):
        assert policy.rows(everything[mart], ["sme_id"]).status_code == 403
    # Superset itself has no login: its administrator administers, and reads nothing.
    for dataset in ("mart_exports_monthly", "dim_sme"):
        refused = owner.rows(everything[dataset], ["release_no"])
        assert refused.status_code >= 400
        assert "has no login on the warehouse" in refused.text


def test_two_banks_see_their_own_rows_and_neither_the_other_s(bi: Running):
    """The same dataset and chart: the policy of the warehouse decides by the login of the person."""
    owner, found = bi.person(OWNER), {}
    dataset = owner.datasets["mart_credit_features"]
    banks = {name: entry for name, entry in bi.server.people().items() if entry["role"] == BANK}
    assert len(banks) == 2
    for name, entry in banks.items():
        person = bi.person(name)
        answer = person.rows(dataset, ["bank_id", "consent_id", "consent_scope"])
        assert answer.status_code == 200, answer.text
        found[name] = {tuple(row.values()) for row in answer.json()["result"][0]["data"]}
        warehouse = bi.server.warehouse
        with psycopg.connect(
            host=warehouse["host"], port=warehouse["port"], dbname=warehouse["database"], user=entry["login"],
            password=entry["login_password"],
        ) as connection:  # fmt: skip
            rows = connection.execute(
                "select bank_id, consent_id, consent_scope from marts.mart_credit_features"
            ).fetchall()
        assert found[name] == set(rows)
        assert {bank for bank, *_ in rows} == {entry["reads"].removeprefix("bank_").upper()}
        of_languages = {f"mart_credit_features · {name}" for name in LANGUAGES.values()}
        assert person.datasets.keys() == {"mart_credit_features", *of_languages}
        assert person.count("dashboard") == len(LANGUAGES)
        assert person.rows(owner.datasets["dim_sme"], ["sme_id"]).status_code == 403
    one, other = found.values()
    assert one
    assert other
    assert not one & other


def test_secrets_are_for_their_owner_alone(bi: Running):
    assert bi.server.people_file.stat().st_mode & 0o777 == 0o600
    secrets = [entry[key] for entry in bi.server.people().values() for key in ("password", "login_password")]
    secrets += [PASSWORD, bi.server.secret_key]
    for log in ("load.log", "server.log"):
        text = (bi.server.folder / log).read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


def _logged_in(browser: Browser, bi: Running, name: str, language: str) -> tuple[Page, list[str], list[str]]:
    """A page of a person, the requests that wanted to leave the machine, and errors that the browser noted."""
    context = browser.new_context(viewport={"width": WIDTHS[0], "height": 900})
    page, outside, errors = context.new_page(), [], []
    page.set_default_timeout(120_000)
    own = bi.server.address

    def stop(route: Any) -> None:
        outside.append(route.request.url)
        route.abort()

    context.route(lambda url: not url.startswith((own, "data:", "blob:")), stop)
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{own}/login/")
    page.fill("input#username", name)
    page.fill("input#password", bi.server.people()[name]["password"])
    page.click("button[type=submit]")
    page.wait_for_load_state("networkidle")
    page.goto(f"{own}/lang/{'zh_TW' if language == 'zh' else 'en'}")
    page.wait_for_load_state("networkidle")
    return page, outside, errors


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("role", [POLICY, ANALYST, BANK])
def test_every_dashboard_shows_its_charts_at_both_widths_and_asks_no_one_outside(
    role: str, language: str, bi: Running, browser: Browser
):
    """Each dashboard once: those for all readers as the one with the least rights."""
    name = PEOPLE.get(role, "demo_bank_b001")
    page, outside, errors = _logged_in(browser, bi, name, language)
    PICTURES.mkdir(parents=True, exist_ok=True)
    shown = [dashboard for dashboard in of(role) if role != ANALYST or POLICY not in readers(dashboard.sources)]
    assert shown
    assets, menu = superset.assets(), {"en": "Charts", "zh": "圖表"}[language]
    for dashboard in shown:
        asset = assets[f"dashboards/{dashboard.key}_{language}.yaml"]
        parts = [part for part in asset["position"].values() if isinstance(part, dict) and part["type"] == "CHART"]
        for width in WIDTHS:
            place = f"{dashboard.key} at {width}"
            page.set_viewport_size({"width": width, "height": 7000})
            page.goto(f"{bi.server.address}/superset/dashboard/{asset['slug']}/")
            page.wait_for_selector(".dashboard-component-chart-holder")
            page.wait_for_load_state("networkidle")
            # Not by a function in the page: its policy forbids eval.
            expect(page.locator(".loading, [data-test=loading-indicator]")).to_have_count(0, timeout=120_000)
            page.wait_for_timeout(1500)
            page.screenshot(path=PICTURES / f"{dashboard.key}-{language}-{width}.png", full_page=True)
            assert page.locator(".dashboard-component-chart-holder .slice_container").count() >= len(parts), place
            assert page.locator(".ant-alert-error").count() == 0, place
            assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, place
        text = page.inner_text("body")
        assert asset["dashboard_title"] in text
        assert menu in text
    assert outside == []
    assert [error for error in errors if COUNTER not in error] == []
    page.context.close()


def test_a_large_number_is_the_sum_of_sql(bi: Running, browser: Browser, world: Simulated):
    page, _, _ = _logged_in(browser, bi, PEOPLE[POLICY], "en")
    page.goto(f"{bi.server.address}/superset/dashboard/overview-en/")
    page.wait_for_selector(".header-line")
    page.wait_for_load_state("networkidle")
    shown = page.locator(".header-line").all_inner_texts()
    question = all_questions()[0]
    ((total,),) = world.read(f"select sum(declarant_count) from ({question.shown}) as answer")
    assert f"{int(total):,}" in shown
    page.context.close()
