"""Each person does the job of a desk in a real browser; every page is looked at, in both widths and languages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser, Page
from psycopg import sql
from sampan import requests
from sampan.contracts.derive import mart_models
from sampan.contracts.registry import get_contract
from sampan.desk.visit import style
from sampan.settings import settings

from tests.browser import WIDTHS, browsing, inspect, look, tab
from tests.integration.desk.conftest import PICTURES, Desks
from tests.integration.desk.test_operator import deliver_held, plant_finding
from tests.integration.desk.test_steward import FEED, STEWARD, csv_of, deliver_broken, table_of
from tests.integration.test_consent import NUMBERS, changes, deliver, make_release

# The job is done once in the quick suite; looking at every page, with axe-core, takes ten seconds a person.
EACH = pytest.mark.parametrize(
    ("width", "looks"),
    [
        pytest.param(WIDTHS[0], False, id="job"),
        *(pytest.param(width, True, id=f"looked-at-{width}", marks=pytest.mark.slow) for width in WIDTHS),
    ],
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


class Person:
    """A tab of a person who signs in by the form. With `looks`, each page is looked at in both languages."""

    def __init__(self, desks: Desks, browser: Browser, name: str, *roles: str, width: int, looks: bool) -> None:
        self.desks, self.name, self.looks, self.wrong = desks, f"{name}-{width}", looks, dict[str, str]()
        self.page, self.seen = tab(browser, width, desks.url)
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.login, password = desks.person(*roles)
        self.page.goto(desks.url)
        self.looked("sign-in")
        self.page.get_by_label("Login").fill(self.login)
        self.page.get_by_label("Password").fill(password)
        self.clicks("button", "Sign in")

    def clicks(self, role: str, name: str) -> Page:
        """Click on what leads to another page."""
        with self.page.expect_navigation():
            self.page.get_by_role(role, name=name).first.click()  # type: ignore[arg-type]
        return self.page

    def sees(self, path: str, picture: str) -> Page:
        """Open a page and look at it in both languages, first in English."""
        if not self.looks:
            self.page.goto(f"{self.desks.url}/en/{path}")
        for folder in ("zh-Hant", "en") if self.looks else ():
            look(self.page, self.seen, f"{self.desks.url}/{folder}/{path}", self.picture(f"{picture}-{folder}"))
            self.note(f"{folder}/{path}")
        return self.page

    def looked(self, picture: str) -> None:
        """Look at the page that is shown."""
        if self.looks:
            inspect(self.page, self.seen, self.picture(picture))
        self.note(self.page.url)

    def carried_out(self, outcome: str) -> None:
        """What was asked for is carried out while its page is open, and the page says what became of it."""
        self.looked(f"request-{self.page.url.rsplit('/', 1)[-1]}-waiting")
        assert [ended.state for ended in requests.run()] == ["done"]
        self.clicks("link", "Look again")
        assert self.page.get_by_text(outcome).is_visible()

    def picture(self, name: str) -> Path:
        return PICTURES / f"{self.name}-{name}.png"

    def note(self, where: str) -> None:
        # No table is wider than its place: what is out of sight is not read.
        cut = self.page.eval_on_selector_all(".scroll", "all => all.map(one => one.scrollWidth - one.clientWidth)")
        self.seen.overflow = max(self.seen.overflow, *cut, 0)
        if self.seen.errors or self.seen.outside or self.seen.faults or self.seen.overflow > 0:
            self.wrong[where] = json.dumps(vars(self.seen))
            self.seen.errors.clear(), self.seen.outside.clear(), self.seen.faults.clear()
            self.seen.overflow = 0

    def done(self) -> None:
        self.page.context.close()
        assert self.wrong == {}


@EACH
def test_an_operator_decides_in_the_browser(width, looks, desks, partner, browser):
    batch = deliver_held(partner)
    plant()
    person = Person(desks, browser, "operator", "sampan_operator", width=width, looks=looks)
    person.sees("", "home")
    person.sees("findings", "findings")
    person.sees("proposals", "proposals")
    person.sees("proposals/1", "proposal")
    page = person.sees("held", "held")
    person.clicks("link", get_contract("customs_declarations").title)
    person.sees(f"held/{batch}", "batch")
    # Without a script: the browser itself asks for the reason.
    page.get_by_role("button", name="Accept").click()
    assert page.url.endswith(f"/en/held/{batch}")
    page.get_by_label("Reason").fill("known fault, agreed by phone")
    page.keyboard.press("Tab")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    person.carried_out(f"batch {batch} of customs_declarations is published")
    person.sees("requests", "requests")
    person.clicks("button", "Sign out")
    assert page.url.endswith("/sign-in")
    person.done()


@EACH
def test_an_operator_decides_on_a_finding_and_on_a_proposed_link_in_the_browser(width, looks, desks, sampan, browser):
    plant()
    person = Person(desks, browser, "decisions", "sampan_operator", width=width, looks=looks)
    person.clicks("link", "Findings in marts")
    person.page.get_by_text("Decide").click()
    person.page.get_by_label("Reason").fill("the bureau corrects the month in its next delivery")
    person.clicks("button", "Accept")
    person.carried_out("finding expect_totals_to_match of mart_exports_monthly is accepted")
    person.sees("findings", "finding-decided")
    person.clicks("link", "Start")
    person.clicks("link", "Proposed links")
    person.clicks("link", "金满堂食品旗舰店")
    page = person.sees("proposals/1", "proposal")
    assert page.get_by_text("Kam Moon Tong Foods Limited").is_visible()
    page.get_by_label("Reason").fill("the licence on the shop's page names the firm")
    person.clicks("button", "Accept")
    person.carried_out("proposal 1 is accepted")
    person.sees("proposals", "proposals-none")
    assert page.get_by_text("No link waits for a decision.").is_visible()
    assert sampan.rows("select verdict, reason, decided_by from ops.finding_decision") == [
        ("accepted", "the bureau corrects the month in its next delivery", person.login)
    ]
    assert sampan.rows("select source_key, number, verdict, decided_by from ops.identity_decision") == [
        ("jd:104233", "90000001", "same", person.login)
    ]
    person.done()


def plant() -> None:
    """A finding and a proposal, as a build leaves them."""
    plant_finding()
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as loader:
        loader.execute(
            "insert into ops.identity_review (source, source_key, number, reason, position, probability, evidence)"
            " values ('shop', 'jd:104233', '90000001', 'likely', 1, 0.873, 'same brand and trade')"
        )
        loader.execute(
            "insert into ops.identity_entity (source, source_key) values ('shop', 'jd:104233'), ('number', '90000001')"
        )
        loader.execute(
            "insert into ops.identity_name values ('shop', 'jd:104233', '金满堂食品旗舰店'),"
            " ('number', '90000001', 'Kam Moon Tong Foods Limited'), ('number', '90000001', '金滿堂食品有限公司')"
        )


@EACH
def test_a_steward_corrects_rows_in_the_browser(width, looks, desks, partner, browser, tmp_path):
    right, needed = deliver_broken(partner)
    person = Person(desks, browser, "steward", STEWARD, width=width, looks=looks)
    person.sees("", "home")
    page = person.sees("feeds", "feeds")
    person.clicks("link", get_contract(FEED).title)
    person.sees(f"feeds/{FEED}", "feed")
    person.sees(f"feeds/{FEED}/how", "how")
    person.sees(f"feeds/{FEED}/attempt", "attempt")
    person.sees(f"feeds/{FEED}/rows", "rows")
    body = page.context.request.get(f"{desks.url}/en/feeds/{FEED}/rows.csv").body()
    (row,) = table_of(body)
    file = tmp_path / "corrected.csv"
    file.write_bytes(csv_of([row | {needed: right[0][needed]}]))
    person.clicks("link", "Upload corrections")
    person.sees(f"feeds/{FEED}/corrections", "corrections")
    page.get_by_label("File with corrected rows").set_input_files(file)
    person.clicks("button", "Check")
    assert page.get_by_text("1 of 1 corrected rows keep all rules").is_visible()
    person.looked("preview")
    page.get_by_label("Reason").fill("typing mistake")
    person.clicks("button", "Send to the operator")
    number = page.url.rsplit("/", 1)[-1]
    person.sees(f"requests/{number}", "request")
    requests.decide(int(number), True, "checked", "operator")
    page.reload()
    assert page.get_by_text("1 published").is_visible()
    person.sees(f"feeds/{FEED}", "feed-after")
    person.done()


@EACH
def test_a_bank_and_a_policy_team_read_in_the_browser(width, looks, desks, sampan, browser):
    deliver(sampan, changes())
    make_release()
    describe("mart_credit_features")
    folder = sampan.state / "reports" / "release_1" / "en"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><html lang='en'><title>x</title><h1>The answers</h1></html>")
    person = Person(desks, browser, "bank", "bank_b001", "policy_reader", width=width, looks=looks)
    person.sees("", "home")
    page = person.sees("consents", "consents")
    number = f"CS{NUMBERS['live']:010}"
    person.clicks("link", number)
    assert page.get_by_text("export_value_12m_hkd").first.is_visible()
    assert page.get_by_text("Exports and re-exports declared in the 12 months").first.is_visible()
    person.sees(f"consents/{number}", "consent")
    person.sees(f"consents/CS{NUMBERS['revoked']:010}", "revoked")
    person.sees("features", "features")
    person.sees("answers", "answers")
    person.clicks("link", "Release 1")
    assert page.get_by_role("heading", name="The answers").is_visible()
    person.done()


def describe(mart: str) -> None:
    """The columns of a mart have their meanings, as a build gives them."""
    (model,) = [model for model in mart_models() if model["name"] == mart]
    meanings = {column["name"]: column["description"] for column in model["columns"]}
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as builder:
        query = "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0"
        for (column,) in builder.execute(query, [f"marts.{mart}"]).fetchall():
            comment = sql.SQL("comment on column {} is {}")
            place = sql.Identifier("marts", mart, column)
            builder.execute(comment.format(place, sql.Literal(meanings.get(column, ""))))


def test_a_long_heading_beside_a_short_value_has_room_of_its_own_on_a_telephone(browser):
    """Kind of fault: a heading that wraps lies over the one below it. No measure of width or overflow sees it."""
    page, _ = tab(browser, WIDTHS[1])
    row = '<td>a</td><td data-label="Names of the enterprise">x</td><td data-label="Short">x</td>'
    page.set_content(f'<style>{style()}</style><div class="scroll"><table><tbody><tr>{row}</tr></tbody></table></div>')
    long, short = page.eval_on_selector_all("td + td", "all => all.map(cell => cell.getBoundingClientRect().height)")
    assert long > 1.3 * short > 0
    page.context.close()
