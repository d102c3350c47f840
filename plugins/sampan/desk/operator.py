"""The operator's desk: what is held, found, proposed or asked for, and the decision on it; and the pages that all share."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from sampan.contracts.registry import all_contracts
from sampan.desk.preview import Previewed, preview
from sampan.desk.sessions import TURNS
from sampan.desk.visit import Row, Visit
from sampan.errors import PermanentFailure
from sampan.monitoring import gates
from sampan.requests import rows_of

SHOWN = 200


def home(visit: Visit) -> Response:
    """The start page: the desks of this person, and how much waits at each."""
    counts: dict[str, int] = {}
    if "operator" in visit.desks:
        counts = visit.row(
            """
            select
                (select count(*) from desk.delivery where state = 'held' and is_open) as held,
                (select count(*) from desk.finding where verdict is null) as findings,
                (select count(*) from desk.proposal where state = 'open') as proposals,
                (select count(*) from desk.request where state = 'asked') as requests
            """
        )
    return visit.page("home.html", counts=counts)


def held(visit: Visit) -> Response:
    """Batches that the gate holds, and deliveries that were refused when landing."""
    found = visit.rows(
        """
        select * from desk.delivery
        where state in ('held', 'refused') and is_open
        order by received_at desc
        limit %s
        """,
        SHOWN,
    )
    return visit.page("held.html", deliveries=found)


def _decision(visit: Visit) -> str:
    """What a form decides: accept or reject. Raises HTTPException when it decides nothing."""
    decision = visit.form.get("decision")
    if decision not in ("accept", "reject"):
        raise HTTPException(400)
    return str(decision)


def _ask(visit: Visit, kind: str, subject: dict[str, Any]) -> Response | None:
    """Ask for what a form decides, and go on to the request; None when the form has no reason."""
    decision, reason = _decision(visit), visit.reason()
    return None if reason is None else visit.go(f"requests/{visit.ask(f'{decision}_{kind}', subject, reason)}")


def batch(visit: Visit) -> Response:
    """One held batch: why, which rules, and the decision."""
    found = visit.row("select * from desk.delivery where batch_id = %s", visit.number("batch"))
    problem = None
    if visit.request.method == "POST":
        if answer := _ask(visit, "batch", {"batch_id": found["batch_id"], "feed": found["feed"]}):
            return answer
        problem = "needs_reason"
    rules = visit.rows(
        "select rule, row_count from desk.broken_rules(%s) order by row_count desc, rule limit %s",
        found["batch_id"],
        SHOWN,
    )
    contract = all_contracts().get(found["feed"])
    asked = visit.rows(
        """
        select request_id, action, state, requested_by, requested_at, reason, outcome from desk.request
        where (subject ->> 'batch_id') = %s and action in ('accept_batch', 'reject_batch')
        order by request_id desc
        """,
        str(found["batch_id"]),
    )
    return visit.page(
        "batch.html", 400 if problem else 200, batch=found, rules=rules, contract=contract, asked=asked, problem=problem
    )  # fmt: skip


def findings(visit: Visit) -> Response:
    """Critical rules of marts that the newest gate found broken."""
    problem = None
    if visit.request.method == "POST":
        _decision(visit)
        subject = {name: str(visit.form.get(name, ""))[:300] for name in ("mart", "rule")}
        visit.row("select 1 as found from desk.finding where mart = %s and rule = %s", *subject.values())
        if answer := _ask(visit, "finding", subject):
            return answer
        problem = "needs_reason"
    in_chinese = visit.words.language != "en"
    found = [
        row
        | {
            "found": gates.found(row["expectation"], row["observed"]),
            "bound": gates.bound(row["expectation"], row["kwargs"])[in_chinese],
        }
        for row in visit.rows("select * from desk.finding order by mart, rule")
    ]
    return visit.page("findings.html", 400 if problem else 200, findings=found, problem=problem)


def proposals(visit: Visit) -> Response:
    """Links between names and enterprises that wait for a person."""
    found = visit.rows(
        "select * from desk.proposal where state = 'open' order by probability desc, review_id limit %s", SHOWN
    )
    return visit.page("proposals.html", proposals=found, all=len(found) < SHOWN)


def proposal(visit: Visit) -> Response:
    """One proposal: both sides, the evidence, and the decision."""
    found = visit.row("select * from desk.proposal where review_id = %s", visit.number("proposal"))
    problem = None
    if visit.request.method == "POST":
        if answer := _ask(visit, "proposal", {"review_id": found["review_id"]}):
            return answer
        problem = "needs_reason"
    others = visit.rows(
        "select * from desk.proposal where source = %s and source_key = %s and review_id <> %s order by probability desc",
        found["source"],
        found["source_key"],
        found["review_id"],
    )
    return visit.page("proposal.html", 400 if problem else 200, proposal=found, others=others, problem=problem)


def requests(visit: Visit) -> Response:
    """Requests that this person sees, those that wait first."""
    require_requests(visit)
    found = visit.rows(
        """
        select * from desk.request
        order by state = 'asked' desc, state = 'waiting' desc, request_id desc
        limit %s
        """,
        SHOWN,
    )
    return visit.page("requests.html", requests=found, about=about)


def request(visit: Visit) -> Response:
    """One request: what it is about, what became of it, and the operator's decision where it waits for one."""
    require_requests(visit)
    found = visit.row("select * from desk.request where request_id = %s", visit.number("request"))
    may_decide = "operator" in visit.desks and found["state"] == "asked"
    is_own = found["requested_by"] == visit.session.login
    problem = None
    if visit.request.method == "POST":
        if not may_decide or (is_own and _decision(visit) == "accept"):
            raise HTTPException(400)
        if answer := _ask(visit, "request", {"request_id": found["request_id"], "feed": found["feed"]}):
            return answer
        problem = "needs_reason"
    contract = all_contracts().get(found["feed"])
    rows: list[Previewed] = []
    not_possible = None
    is_correction = found["action"] == "correct_rows" and found["state"] == "asked"
    if is_correction and contract is not None:
        try:
            with TURNS.of(visit.session.login):
                given = rows_of(found["subject"])
                rows = preview(visit.connection, contract, given, found["request_id"])
        except PermanentFailure as failure:
            not_possible = failure.problem
    return visit.page(
        "request.html", 400 if problem else 200, request=found, about=about(found), may_decide=may_decide,
        is_own=is_own, problem=problem, contract=contract, rows=rows[:SHOWN], all=len(rows),
        sound=sum(not row.broken for row in rows), not_possible=not_possible,
        row_count=len(rows) or found["subject"].get("row_count"),
    )  # fmt: skip


def require_requests(visit: Visit) -> None:
    """Those who cannot ask for anything have no page of requests."""
    if not visit.desks & {"operator", "steward"}:
        raise HTTPException(404)


def about(request: Row) -> tuple[str, Any]:
    """What a request is about: a kind (batch, finding, proposal, request, rows) and its name."""
    subject = request["subject"]
    if request["action"].endswith("_finding"):
        return "finding", f"{subject.get('mart')}: {subject.get('rule')}"
    keys = {"batch": "batch_id", "proposal": "review_id", "request": "request_id"}
    kind = request["action"].partition("_")[2]
    return (kind, subject.get(keys[kind])) if kind in keys else ("rows", request["feed"])
