"""What a desk must not do for anyone: each test attacks as its name says, with what a browser would not send."""

from __future__ import annotations

import asyncio
import io
import re
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import timedelta
from itertools import product

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Jsonb
from sampan import failpoints, requests
from sampan.contracts.registry import get_contract
from sampan.desk import app, config, uploads
from sampan.desk.sessions import (
    IDLE_SECONDS,
    LONGEST_SECONDS,
    MOST_FAILED,
    MOST_FAILED_OF_ADDRESS,
    MOST_KNOWN,
    MOST_SESSIONS,
    MOST_SESSIONS_OF_LOGIN,
    WINDOW_SECONDS,
    FailedSignIns,
    Sessions,
    Turns,
)
from sampan.errors import PermanentFailure, SettingsFailure
from sampan.governance import retention
from sampan.settings import settings
from starlette.exceptions import HTTPException

from tests.factory import DAY
from tests.integration.desk.conftest import Client
from tests.integration.desk.test_operator import deliver_held
from tests.integration.desk.test_steward import FEED, STEWARD, ask_to_correct, csv_of, deliver_broken, table_of, xlsx_of
from tests.integration.test_consent import NUMBERS, changes, deliver, make_release

OTHER = f"steward_{get_contract('customs_declarations').partner}"
SCRIPT = "</p><script>alert(1)</script>"


def test_no_one_sees_or_asks_for_what_is_not_theirs(desks, partner):
    """Another partner's rows, another desk's pages, ids that are SQL, and `desk.ask` called past the pages."""
    deliver_broken(partner)
    held = deliver_held(partner)
    steward, other, policy = desks.client(STEWARD), desks.client(OTHER), desks.client("policy_reader")
    own = f"/en/feeds/{FEED}/rows"
    assert steward.get(own).status_code == 200
    for path in (own, f"{own}.csv", f"{own}.xlsx", f"/en/feeds/{FEED}", f"/en/feeds/{FEED}/how", f"/en/held/{held}"):
        assert other.get(path).status_code == 404, path
        assert policy.get(path).status_code == 404, path
    assert other.form(f"/en/feeds/{FEED}/corrections", ("a.csv", b"_quarantine_id\n1\n")).status_code == 404
    for path in (
        f"{own}?after=1%20or%201=1",
        "/en/held/1%20or%201=1",
        "/en/held/99999999999999999999",
        "/en/feeds/x';drop%20table%20ops.batch;--",
        "/en/requests/-1",
        f"/en/requests/{'9' * 5000}",
        f"{own}?after={'9' * 5000}",
        f"{own}?rule=%00",
        f"/en/feeds/{FEED}%00/rows",
        "/en/feeds/funding_payments__rows/rows",
        "/xx/held",
    ):
        assert steward.get(path).status_code == 404, path
    injected = steward.get(own, params={"rule": "' or true --"})
    assert (injected.status_code, "Row 1" in injected.text) == (200, False)
    # The pages aside, the database decides.
    for client, action, subject in (
        (steward, "accept_batch", {"batch_id": held}),
        (steward, "accept_request", {"request_id": 1}),
        (other, "correct_rows", {"feed": FEED, "rows": []}),
        (other, "correct_rows", {"feed": "x' or true --", "rows": []}),
        (policy, "accept_finding", {"mart": "dim_sme", "rule": "x"}),
    ):
        with (
            psycopg.connect(dsn_of(desks, client), autocommit=True) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute("select desk.ask(%s, %s, 'x')", [action, Jsonb(subject)])
    with psycopg.connect(dsn_of(desks, steward), autocommit=True) as connection:
        for statement in (
            "select * from ops.request",
            "insert into ops.request default values",
            "update desk.request set state = 'waiting'",
            "delete from desk.request",
            "insert into desk.feed (feed) values ('x')",
            "select * from quarantine.customs_declarations__rows",
        ):
            with pytest.raises(psycopg.Error):
                connection.execute(statement)
        assert connection.execute("select distinct feed from desk.delivery").fetchall() == [(FEED,)]
        assert connection.execute("select count(*) from desk.proposal, desk.finding").fetchall() == [(0,)]
    with psycopg.connect(dsn_of(desks, policy), autocommit=True) as connection:
        for view in ("feed", "delivery", "finding", "proposal", "request", "consent"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"select count(*) from desk.{view}")
    assert partner.sampan.one("select count(*) from ops.request") == 0


def dsn_of(desks, client: Client) -> str:
    return make_conninfo(settings().dsn("admin"), user=client.login, password=desks.people[client.login], options="")


IDS = {"batch": "1", "proposal": "1", "request": "1", "feed": FEED, "ending": "csv", "consent": "CS0000000001"}
ROLE_OF_DESK = {"operator": "sampan_operator", "steward": STEWARD, "bank": "bank_b014", "policy": "policy_reader"}


@pytest.mark.parametrize("desk", ROLE_OF_DESK)
def test_no_desk_finds_a_page_of_another_desk(desk, desks, sampan):
    """Each route by the list of them, also with a form that has the session's own token; and without a session none."""
    sampan.rows("select ops.ensure_bank_role('B014')")
    client, stranger = desks.client(ROLE_OF_DESK[desk]), httpx.Client(base_url=desks.url, follow_redirects=False)
    token, tried = client.token(), 0
    for path, methods, of, _ in app.PAGES:
        place = f"/en/{path.format(**IDS)}"
        for method in methods:
            assert stranger.request(method, place).headers["location"] == "/en/sign-in", place
            if of not in (None, desk):
                form = {"csrf": token, "decision": "accept", "reason": "x"} if method == "POST" else None
                assert client.request(method, place, data=form).status_code == 404, (method, place)
                tried += 1
    assert tried >= len(app.PAGES) // 2


def test_a_bank_reads_no_consent_of_another_bank(desks, sampan):
    deliver(sampan, changes())
    make_release()
    bank, number = desks.client("bank_b002"), f"CS{NUMBERS['live']:010}"
    assert bank.get(f"/en/consents/{number}").status_code == 404
    assert number not in bank.get("/en/consents").text
    assert bank.get("/en/consents/CS0000000001%27%20or%20true--").status_code == 404
    assert bank.get("/en/requests").status_code == 404
    # One whose login has no role of a bank has no consents, and no function that could tell of them.
    assert desks.client("policy_reader").get("/en/consents").status_code == 404


# Role, view, column, and two values that no row of the role's own has: one of others, one of no one.
PROBES = [
    ("bank_b002", "desk.consent", "consent_id", f"CS{NUMBERS['live']:010}", "CS9999999999"),
    (OTHER, "desk.delivery", "feed", "cdi_consents", "nobodys"),
    (STEWARD, "desk.request", "feed", "customs_declarations", "nobodys"),
    (STEWARD, f"quarantine.{FEED}__rows", "business_date", str(DAY), "1999-01-01"),
]


@pytest.mark.parametrize(("role", "view", "column", "theirs", "nobodys"), PROBES)
def test_no_plan_tells_of_the_rows_of_others(role, view, column, theirs, nobodys, desks, partner):
    """A barrier lets cheap operators run below its condition: counts of a plan told whether another bank has a consent."""
    deliver(partner.sampan, changes())
    deliver_held(partner)
    with psycopg.connect(dsn_of(desks, desks.client(OTHER)), autocommit=True) as connection:
        subject = Jsonb({"feed": "customs_declarations", "rows": []})
        connection.execute("select desk.ask('correct_rows', %s, 'x')", [subject])
    query = f"explain (analyze, costs off, timing off, summary off, buffers off) select 1 from {view} where {column} = "
    with psycopg.connect(dsn_of(desks, desks.client(role)), autocommit=True) as connection:
        for settings_ in product(("on", "off"), repeat=3):
            for name, value in zip(("seqscan", "nestloop", "hashjoin"), settings_, strict=True):
                connection.execute(f"set enable_{name} to {value}")
            told = [
                [line.replace(value, "?") for (line,) in connection.execute(f"{query}'{value}'").fetchall()]
                for value in (theirs, nobodys)
            ]
            assert told[0] == told[1]


# What a login may write past the pages: (its role, action, subject).
FORGED = [
    ("sampan_operator", "accept_batch", {"batch_id": 10**30}),
    ("sampan_operator", "accept_batch", {"batch_id": 1.5}),
    ("sampan_operator", "reject_batch", {"batch_id": True}),
    ("sampan_operator", "accept_request", {"request_id": "1"}),
    ("sampan_operator", "accept_finding", {"mart": ["x"], "rule": {}}),
    ("sampan_operator", "reject_proposal", {"review_id": -(10**20)}),
    *(
        (STEWARD, "correct_rows", {"feed": FEED, "rows": rows})
        for rows in (
            5, "x", {}, [], [1], [None], [[]], [{}], [{"_quarantine_id": 1}], [{"_quarantine_id": {"a": []}}],
            [{"_quarantine_id": "9" * 40}], [{"_quarantine_id": "x"}], [{"_quarantine_id": None}], [{"": ""}],
            [{"_quarantine_id": "1"}, {"b": "2"}], [{'a"\n,': '"\r\n'}], [{"_quarantine_id": "1", "a": "\ud83d\ude00"}],
        )
    ),
]  # fmt: skip


def test_no_request_that_a_login_forges_stops_those_of_others(desks, partner):
    """One that is carried out without end, or ends a run with an error, would keep everybody's from being carried out."""
    deliver_broken(partner)
    people = {role: desks.client(role) for role in (STEWARD, "sampan_operator")}

    def ask(role: str, action: str, subject: object) -> int:
        with psycopg.connect(dsn_of(desks, people[role]), autocommit=True) as connection:
            return connection.execute("select desk.ask(%s, %s, 'x')", [action, Jsonb(subject)]).fetchone()[0]

    for subject in ([], 1, "x", None, [{"batch_id": 1}]):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            ask("sampan_operator", "accept_batch", subject)
    for subject in ({"batch_id": 1, "note": "x" * 3000}, {"mart": "x" * 3000, "rule": "y"}):
        with pytest.raises(psycopg.errors.ProgramLimitExceeded):
            ask("sampan_operator", "accept_finding", subject)
    for role, action, subject in FORGED:
        number = ask(role, action, subject)
        if role == STEWARD:
            # Who decides on it sees a page, regardless of what is written there.
            assert people["sampan_operator"].get(f"/en/requests/{number}").status_code == 200
            ask("sampan_operator", "accept_request", {"request_id": number})
        requests.run()
        state, outcome = partner.sampan.rows("select state, outcome from ops.request where request_id = %s", number)[0]
        assert (state, "[" in outcome) == ("failed", True), (action, subject, outcome)
    assert partner.sampan.one("select count(*) from ops.request where state in ('asked', 'waiting')") == 0


def test_what_a_correction_would_replace_is_shown_to_those_who_see_the_feed_and_until_it_is_decided(desks, partner):
    """Rejected rows were the steward's alone: an operator sees those of a request that waits, and no others."""
    steward, operator = desks.client(STEWARD), desks.client("sampan_operator")
    _, broken, number = ask_to_correct(partner, steward)
    other = desks.client("steward_customs")

    def seen(person: Client) -> list[tuple[int]]:
        with psycopg.connect(dsn_of(desks, person), autocommit=True) as connection:
            return connection.execute("select quarantine_id from desk.corrected(%s)", [number]).fetchall()

    own = [(int(broken["_quarantine_id"]),)]
    assert [seen(person) for person in (steward, operator, other)] == [own, own, []]
    with (
        psycopg.connect(dsn_of(desks, operator), autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(f"select from quarantine.{FEED}__rows")
    operator.form(f"/en/requests/{number}", decision="reject", reason="x")
    assert [ended.state for ended in requests.run()] == ["done"]
    assert [seen(person) for person in (steward, operator)] == [[], []]


def test_no_one_accepts_corrections_of_their_own(desks, partner):
    """A login that is a steward's and an operator's asked and accepted: no second person saw what was published."""
    right, needed = deliver_broken(partner)
    both, operator = desks.client(STEWARD, "sampan_operator"), desks.client("sampan_operator")
    table = table_of(both.get(f"/en/feeds/{FEED}/rows.csv").content)
    both.form(f"/en/feeds/{FEED}/corrections", ("a.csv", csv_of([table[0] | {needed: right[0][needed]}])))
    both.form(f"/en/feeds/{FEED}/send", reason="mine")
    number = partner.sampan.one("select request_id from ops.request")
    page = f"/en/requests/{number}"
    assert "another operator has to accept it" in both.get(page).text
    assert 'value="accept"' not in both.get(page).text
    assert both.form(page, decision="accept", reason="mine").status_code == 400
    with psycopg.connect(dsn_of(desks, both), autocommit=True) as connection:
        connection.execute("select desk.ask('accept_request', %s, 'mine')", [Jsonb({"request_id": number})])
    assert [(ended.state, "[request.own]" in ended.outcome) for ended in requests.run()] == [("failed", True)]
    assert len(partner.raw(FEED)) == len(right) - 1
    operator.form(page, decision="accept", reason="checked")
    assert [ended.state for ended in requests.run()] == ["done"]
    assert len(partner.raw(FEED)) == len(right)


@pytest.mark.parametrize("place", ["publish.before_attach", "publish.before_commit"])
def test_no_request_is_refused_while_another_person_has_it_published(place, desks, partner, monkeypatch):
    """Kind of fault: two decisions at the same time. The command refused what a desk was publishing: both had their way."""
    right, number = ask_for_corrections(desks, partner)
    refused: list[Future[str]] = []
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:

        def hit(name: str) -> None:
            if name == place and not refused:
                refused.append(pool.submit(requests.decide, number, False, "not now", "somebody"))
                wait(refused, 1)

        patch.setattr(failpoints, "hit", hit)
        requests.decide(number, True, "checked", "another")
    assert isinstance(refused[0].exception(), PermanentFailure)
    assert partner.sampan.one("select state from ops.request where request_id = %s", number) == "done"
    assert len(partner.raw(FEED)) == len(right)


def test_a_request_is_not_refused_when_a_run_that_died_had_accepted_it(desks, partner, monkeypatch):
    """Its rows were published, and it said that they were refused."""
    right, number = ask_for_corrections(desks, partner)

    def die(name: str) -> None:
        if name == "publish.after_commit":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "hit", die)
        with pytest.raises(KeyboardInterrupt):
            requests.decide(number, True, "checked", "another")
    assert len(partner.raw(FEED)) == len(right)
    with pytest.raises(PermanentFailure, match="was accepted before"):
        requests.decide(number, False, "not now", "somebody")
    requests.decide(number, True, "checked", "another")
    assert partner.sampan.one("select state from ops.request where request_id = %s", number) == "done"


def ask_for_corrections(desks, partner) -> tuple[list[dict[str, str]], int]:
    """All rows as they are right, and the number of a steward's request to correct the one that is not."""
    right, needed = deliver_broken(partner)
    steward = desks.client(STEWARD)
    table = table_of(steward.get(f"/en/feeds/{FEED}/rows.csv").content)
    steward.form(f"/en/feeds/{FEED}/corrections", ("a.csv", csv_of([table[0] | {needed: right[0][needed]}])))
    steward.form(f"/en/feeds/{FEED}/send", reason="mine")
    return right, partner.sampan.one("select request_id from ops.request")


def test_who_asked_may_refuse_it(desks, partner):
    right, needed = deliver_broken(partner)
    both = desks.client(STEWARD, "sampan_operator")
    table = table_of(both.get(f"/en/feeds/{FEED}/rows.csv").content)
    both.form(f"/en/feeds/{FEED}/corrections", ("a.csv", csv_of([table[0] | {needed: right[0][needed]}])))
    both.form(f"/en/feeds/{FEED}/send", reason="mine")
    number = partner.sampan.one("select request_id from ops.request")
    both.form(f"/en/requests/{number}", decision="reject", reason="it was wrong")
    assert [ended.state for ended in requests.run()] == ["done"]
    assert partner.sampan.one("select state from ops.request where request_id = %s", number) == "refused"


def test_corrections_that_no_one_decides_go_with_their_rows(desks, partner):
    """They have the values of rows: retention deleted those, and the request kept them for ever."""
    right, needed = deliver_broken(partner)
    steward = desks.client(STEWARD)
    table = table_of(steward.get(f"/en/feeds/{FEED}/rows.csv").content)
    steward.form(f"/en/feeds/{FEED}/corrections", ("a.csv", csv_of([table[0] | {needed: right[0][needed]}])))
    steward.form(f"/en/feeds/{FEED}/send", reason="x")
    asked = "select state, subject ? 'rows', outcome from ops.request"
    retention.run(DAY)
    assert partner.sampan.rows(asked) == [("asked", True, None)]
    retention.run(DAY + timedelta(days=get_contract(FEED).retention_days + 1), allow_mass_delete=True)
    assert partner.sampan.rows(asked) == [("refused", False, "its rows are not in quarantine any more")]


def test_no_login_keeps_others_from_asking_with_messages_that_no_one_fetches(desks, partner):
    """Every login may notify, and one that fetches nothing keeps the queue of all of them full."""
    held = deliver_held(partner)
    with (
        psycopg.connect(dsn_of(desks, desks.client("policy_reader")), autocommit=True) as deaf,
        psycopg.connect(dsn_of(desks, desks.client("policy_reader")), autocommit=True) as loud,
    ):
        for statement in ("listen x", "begin", "select 1"):
            deaf.execute(statement)
        send, number = "select pg_notify('x', %s || n) from generate_series(1, 100) as n", 0
        with suppress(psycopg.errors.ProgramLimitExceeded):
            while number < 1000:
                loud.execute(send, [f"{number:7900} "])
                number += 1
        assert 0 < number < 1000
        asked = desks.client("sampan_operator").form(f"/en/held/{held}", decision="accept", reason="x")
        assert asked.status_code == 200
        (ended,) = requests.run()
        assert ended.state == "done"


def test_the_trigger_fires_once_for_what_waits(desks, sampan):
    """It looks into the table: it would fire for ever for a request that no one carries out."""
    from sampan_airflow import PAUSE, RequestTrigger

    def ask() -> int:
        with psycopg.connect(dsn_of(desks, operator), autocommit=True) as connection:
            query = "select desk.ask('accept_batch', %s, 'x')"
            return int(connection.execute(query, [Jsonb({"batch_id": 1})]).fetchone()[0])

    async def fired() -> None:
        events = RequestTrigger().run()
        for _ in range(2):
            number = ask()
            assert (await asyncio.wait_for(anext(events), 30)).payload == {"request_id": number}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 2 * PAUSE)

    operator = desks.client("sampan_operator")
    asyncio.run(fired())


def test_a_session_is_not_forged_and_ends_with_its_login(desks, partner):
    held = deliver_held(partner)
    operator = desks.client("sampan_operator")
    cookie = operator.cookies["sampan_desk"]
    headers = operator.get("/en/").headers
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    for forged in ("", "x", cookie[:-1], f"{cookie}x", cookie.swapcase(), "a" * 100_000):
        stranger = Client(desks.url)
        stranger.cookies.set("sampan_desk", forged)
        answer = stranger.get("/en/held", follow_redirects=False)
        assert (answer.status_code, answer.headers.get("location")) in ((303, "/en/sign-in"), (400, None)), forged[:9]
    # Signed out, the cookie opens nothing; a form of another session does not sign out.
    assert operator.post("/en/sign-out", data={"csrf": "x"}).status_code == 403
    operator.post("/en/sign-out", data={"csrf": operator.token()})
    again = Client(desks.url)
    again.cookies.set("sampan_desk", cookie)
    assert "/en/sign-in" in str(again.get("/en/held").url)
    # A login that is dropped while its session lasts, and one that asked before it was.
    operator = desks.client("sampan_operator")
    operator.form(f"/en/held/{held}", decision="accept", reason="x")
    desks.drop(operator.login)
    assert "/en/sign-in" in str(operator.get("/en/held").url)
    (ended,) = requests.run()
    assert (ended.state, "[request.not_allowed]" in ended.outcome) == ("failed", True)
    assert partner.sampan.batch("customs_declarations")["state"] == "held"


def test_a_form_counts_only_with_its_token_from_its_own_site(desks, partner):
    held = deliver_held(partner)
    operator = desks.client("sampan_operator")
    path, whole = f"/en/held/{held}", {"decision": "accept", "reason": "x"}
    other = desks.client("sampan_operator").token()
    for token in ({}, {"csrf": ""}, {"csrf": "x"}, {"csrf": other}):
        assert operator.post(path, data=whole | token).status_code == 403, token
    own = whole | {"csrf": operator.token()}
    for header in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        assert operator.post(path, data=own, headers=header).status_code == 403, header
        sign_in = httpx.post(f"{desks.url}/en/sign-in", data={"login": "x", "password": "x"}, headers=header)
        assert sign_in.status_code == 403
    assert operator.get("/en/held", headers={"host": "evil.example"}).status_code == 400
    assert operator.put(path, data=own).status_code in (403, 405)
    assert partner.sampan.one("select count(*) from ops.request") == 0


def test_passwords_cannot_be_tried_without_end_and_logins_of_the_platform_open_nothing(desks, sampan):
    login, password = desks.person("sampan_operator")
    client = Client(desks.url)
    dsn = conninfo_to_dict(sampan.environment["SAMPAN_WAREHOUSE_DSN"])
    for name, secret in (
        ("sampan_loader", sampan.environment["SAMPAN_LOADER_PASSWORD"]),
        (str(dsn["user"]), str(dsn.get("password", "x"))),
        ("nobody", "x"),
        (f"{login}' or true --", password),
    ):
        assert client.sign_in(name, secret).status_code == 401, name
        assert "sampan_desk" not in client.cookies

    # All at the same time, so that none is judged before the next comes, and each with another address of a client.
    def attempt(number: int) -> int:
        told = {"x-forwarded-for": f"10.0.0.{number}"}
        return httpx.post(
            f"{desks.url}/en/sign-in", data={"login": login, "password": "wrong"}, headers=told
        ).status_code

    with ThreadPoolExecutor(4 * MOST_FAILED) as pool:
        tries = pool.map(attempt, range(4 * MOST_FAILED))
    assert sorted(tries) == [401] * MOST_FAILED + [429] * 3 * MOST_FAILED
    assert client.sign_in(login, password).status_code == 429


def test_sessions_and_failures_end_with_time():
    now = 0.0
    sessions, failed = Sessions(lambda: now), FailedSignIns(lambda: now)
    cookie = sessions.begin("chan", "x")
    assert "x" not in repr(sessions.find(cookie))
    while now < LONGEST_SECONDS:
        now += IDLE_SECONDS - 1
        found = sessions.find(cookie)
        assert (found is not None) == (now <= LONGEST_SECONDS)
    cookie = sessions.begin("chan", "x")
    now += IDLE_SECONDS + 1
    assert sessions.find(cookie) is None
    assert [failed.may_try("chan", "1") for _ in range(MOST_FAILED + 1)] == [True] * MOST_FAILED + [False]
    assert failed.may_try("chan", "2")
    now += WINDOW_SECONDS + 1
    assert failed.may_try("chan", "1")


def test_who_fails_without_end_keeps_no_one_out_who_was_in_before():
    """30 wrong tries with names made up kept everybody of the address out: on one machine, or behind a proxy, all."""
    failed = FailedSignIns()
    assert failed.may_try("chan", "1")
    failed.forget("chan", "1")
    assert [failed.may_try(f"made_up_{number}", "1") for number in range(MOST_FAILED_OF_ADDRESS + 1)][-2:] == [
        True,
        False,
    ]
    assert not failed.may_try("wong", "1")
    assert not failed.may_try("", "1")
    # Its own tries are no more than any login's.
    assert [failed.may_try("chan", "1") for _ in range(MOST_FAILED + 1)] == [True] * MOST_FAILED + [False]
    # From another address it is one of many.
    for number in range(MOST_FAILED_OF_ADDRESS):
        assert failed.may_try(f"made_up_{number}", "2")
    assert not failed.may_try("chan", "2")
    for number in range(MOST_KNOWN):
        failed.forget(f"other_{number}", "1")
    assert len(failed._known) == MOST_KNOWN


def test_a_person_gets_in_while_another_one_of_the_address_fails_and_no_answer_tells_who(desks):
    login, password = desks.person("sampan_operator")
    assert Client(desks.url).sign_in(login, password).status_code == 200
    made_up = [
        Client(desks.url).sign_in(f"made_up_{number}", "x").status_code for number in range(MOST_FAILED_OF_ADDRESS)
    ]
    assert set(made_up) == {401}
    # The login that was in before, with a wrong password, is answered as one that no one has.
    answers = [Client(desks.url).sign_in(name, "wrong") for name in (login, "made_up")]
    assert [(answer.status_code, answer.text) for answer in answers] == [(429, answers[1].text)] * 2
    assert Client(desks.url).sign_in(login, password).status_code == 200


def test_a_login_signs_out_no_one_else():
    """Who signs in without end would take the place of all others."""
    sessions = Sessions()
    others = [sessions.begin(f"other_{n}", "x") for n in range(MOST_SESSIONS // 2)]
    own = [sessions.begin("chan", "x") for _ in range(MOST_SESSIONS)]
    assert all(sessions.find(cookie) for cookie in others)
    assert sessions.find(own[-1])
    assert sum(sessions.find(cookie) is not None for cookie in own) == MOST_SESSIONS_OF_LOGIN


def test_a_try_that_gets_in_does_not_count():
    failed = FailedSignIns()
    for n in range(MOST_FAILED_OF_ADDRESS * 2):
        assert failed.may_try(f"person_{n}", "1")
        failed.forget(f"person_{n}", "1")
    for _ in range(MOST_FAILED * 2):
        assert failed.may_try("chan", "1")
        failed.take_back("chan", "1")


def test_uploads_at_once_are_few_and_one_of_a_login():
    """Each is read in a child that may take half a GB: many at once would take the memory of the platform."""
    turns = Turns(2)
    with turns.of("a"):
        with pytest.raises(HTTPException), turns.of("a"):
            pass
        with turns.of("b"), pytest.raises(HTTPException), turns.of("c"):
            pass
        with turns.of("c"):
            pass
    with turns.of("a"):
        pass


def test_texts_of_partners_and_people_run_nowhere(desks, partner, tmp_path):
    contract = get_contract(FEED)
    text = next(
        c.name for c in contract.stored if c.type == "text" and not c.primary_key and "pattern" not in c.options
    )
    right, needed = deliver_broken(partner)
    steward, operator = desks.client(STEWARD), desks.client("sampan_operator")
    partner.sampan.rows(
        "update quarantine.record set record = %s, fields = fields || %s returning 1", SCRIPT, Jsonb({text: SCRIPT})
    )
    assert "<script" not in steward.get(f"/en/feeds/{FEED}/rows").text
    partner.sampan.rows("update quarantine.record set fields = fields || %s returning 1", Jsonb({text: "=1+1"}))
    table = table_of(steward.get(f"/en/feeds/{FEED}/rows.csv").content)
    assert table[0][text] == "'=1+1"
    book = steward.get(f"/en/feeds/{FEED}/rows.xlsx").content
    with zipfile.ZipFile(io.BytesIO(book)) as archive:
        assert b"<f>" not in archive.read("xl/worksheets/sheet1.xml")
    given = csv_of([table[0] | {needed: right[0][needed]}])
    answer = steward.form(f"/en/feeds/{FEED}/corrections", (f"../../etc/{SCRIPT}.csv", given))
    assert (answer.status_code, "<script" in answer.text) == (200, False)
    steward.form(f"/en/feeds/{FEED}/send", reason=f"{SCRIPT} of A123456(3)")
    assert partner.sampan.one("select reason from ops.request") == f"{SCRIPT} of [HKID]"
    for page in ("/en/requests", f"/en/requests/{partner.sampan.one('select request_id from ops.request')}"):
        for client in (steward, operator):
            shown = client.get(page).text
            assert "&lt;script" in shown
            assert "<script" not in shown
    wrong = steward.form(f"/en/feeds/{FEED}/corrections", (f"..\\{SCRIPT}\x1b[2J.csv", b"a,b\n1,2\n"))
    assert (wrong.status_code, "<script" in wrong.text, "\x1b" in wrong.text) == (400, False, False)


def test_an_upload_cannot_exhaust_the_desk_nor_bring_personal_data(desks, partner):
    right, needed = deliver_broken(partner)
    contract = get_contract(FEED)
    text = next(
        c.name for c in contract.stored if c.type == "text" and not c.primary_key and "pattern" not in c.options
    )
    steward = desks.client(STEWARD)
    path = f"/en/feeds/{FEED}/corrections"
    table = table_of(steward.get(f"/en/feeds/{FEED}/rows.csv").content)
    sound = table[0] | {needed: right[0][needed]}
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(xlsx_of([sound]))) as whole,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            content = whole.read(name)
            if name.endswith("sheet1.xml"):
                content = content.replace(b"<sheetData>", b"<sheetData>" + b" " * 300_000_000)
            packed.writestr(name, content)
    wide = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(xlsx_of([sound]))) as whole, zipfile.ZipFile(wide, "w") as packed:
        for name in whole.namelist():
            content = whole.read(name)
            if name.endswith("sheet1.xml"):
                content = re.sub(rb'<row r="2"', b'<row r="1048576"', content).replace(b'r="A2"', b'r="XFD1048576"')
            packed.writestr(name, content)
    many = csv_of([sound] * (uploads.MOST_ROWS + 1))
    for body, said in (
        (bomb.getvalue(), "delivery.too_large"),
        (wide.getvalue(), "delivery.too_large"),
        (many, "quarantine"),
        (b"PK\x03\x04 no archive", "delivery.other_format"),
        (b"\xff\xfe\x00", "delivery.other_format"),
        (b"", "Choose a file"),
        (csv_of([sound, sound]), "duplicate _quarantine_id"),
        (csv_of([sound | {"_quarantine_id": "999999"}]), "quarantine.id"),
        (csv_of([sound | {"_quarantine_id": "1; drop"}]), "is not a number"),
        (csv_of([{"_quarantine_id": "1", "evil": "x"}]), "evil"),
        (csv_of([sound | {text: "call A123456(3) today"}]), "quarantine.pseudonym"),
        (csv_of([sound | {text: f"p1_{'a' * 64}"}]), "quarantine.pseudonym"),
    ):
        answer = steward.form(path, ("a.xlsx", body))
        assert (answer.status_code, said in answer.text) == (400, True), (said, body[:60], answer.text[-900:])
        assert "A123456" not in answer.text
        assert steward.form(f"/en/feeds/{FEED}/send", reason="x").url.path == path
    for page in ("corrections", "attempt"):
        # A form of no browser: a text where the file should be.
        answer = steward.post(
            f"/en/feeds/{FEED}/{page}", data={"csrf": steward.token(), "file": "rows", "day": "2026-07-06"}
        )
        assert (answer.status_code, "Choose a file" in answer.text) == (400, True)
    large = steward.form(path, ("a.csv", b"x" * (uploads.MOST_BYTES + 200_000)))
    assert large.status_code == 413
    assert partner.sampan.one("select count(*) from ops.request") == 0


def test_pages_of_answers_are_for_policy_and_lead_nowhere_else(desks, partner):
    folder = partner.sampan.state / "reports" / "release_7"
    (folder / "en").mkdir(parents=True)
    (folder / "en" / "index.html").write_text("<p>the answers</p>")
    (folder / "rows.json").write_text("[]")
    (folder.parent / ".making").mkdir()
    (folder.parent / ".making" / "x.html").write_text("half")
    (partner.sampan.state / "env").write_text("SAMPAN_SECRET=1")
    (folder / "out.html").symlink_to(partner.sampan.state / "env")
    policy, operator = desks.client("policy_reader"), desks.client("sampan_operator")
    assert "/answers/release_7/en/index.html" in policy.get("/en/answers").text
    assert "the answers" in policy.get("/answers/release_7/en/index.html").text
    for path in (
        "/answers/release_7/rows.json", "/answers/release_7/out.html", "/answers/release_7/..%2f..%2fenv",
        "/answers/release_7/%2e%2e/%2e%2e/env", "/answers/.making/x.html", "/answers/release_7/../.making/x.html",
        "/answers//etc/passwd", "/answers/release_7", "/answers/release_7/%00.html",
    ):  # fmt: skip
        assert policy.get(path).status_code == 404, path
    assert operator.get("/answers/release_7/en/index.html").status_code == 404
    assert "/sign-in" in str(Client(desks.url).get("/answers/release_7/en/index.html").url)


def test_the_desks_take_no_login_of_their_own():
    assert config.from_environment({"SAMPAN_DESK_DSN": "host=h port=1 dbname=d"}).warehouse["host"] == "h"
    for dsn in ("", "host=h user=sampan_loader", "postgresql://a:b@h/d"):
        with pytest.raises(SettingsFailure, match="SAMPAN_DESK_DSN"):
            config.from_environment({"SAMPAN_DESK_DSN": dsn})
