"""Requests: what people ask for at the desks and in Airflow, carried out by the platform in their names.

A desk has no rights of its own. It writes a row of `ops.request` through `desk.ask`, in the session of the person's login.
`run` carries out what waits, after asking again whether the login may still decide that. What a steward asks for waits for
the decision of an operator, which is a request too. Airflow shows what is `undecided` to people whom it lets decide, and
`ask` writes their decision down.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from sampan.contracts.registry import get_contract
from sampan.database import LARGEST_ID, Connection, connect, lock, scalar
from sampan.errors import Code, PermanentFailure, Problem, require_reason
from sampan.identity import review
from sampan.ingest import gate, lake, publish, quarantine
from sampan.marts import release
from sampan.reading.record import csv_line
from sampan.reading.shown import hidden
from sampan.text import literal

log = logging.getLogger(__name__)
# What a request that was begun before finds when it was carried out then, and its process died before it said so.
WAS_DONE = (Code.GATE_ACCEPT, Code.QUARANTINE_ID, Code.REQUEST_NOT_ASKED)
DONE_BEFORE = "carried out by an earlier run"
# `requested_as` of what was decided in Airflow: its users are not logins. `desk.ask` never writes it.
AIRFLOW = "airflow"
# What each decision does, for who reads no other page than the question in Airflow.
MEANS = {
    "batch": "**Accept**: its sound rows are published at once, its broken rows stay in quarantine. **Reject**: nothing of it"
    " is published, and its date waits for another delivery. Each broken rule with its rows is on its page at the desk.",
    "finding": "**Accept**: the marts may be released although the rule is broken, until a gate finds it met again; a refresh"
    " follows within half an hour. **Reject**: they wait. What the rule asks for and what was found: *Browse, Checks at the"
    " gates*.",
    "proposal": "**Accept**: the two are one enterprise, from the next refresh on. **Reject**: they are not, and this is"
    " never proposed again.",
}
# How long a decision waits for another one.
PATIENCE = "2min"
BEGIN = """
    with chosen as (select *, started_at is not null as is_begun from ops.request where {})
    update ops.request set started_at = clock_timestamp() from chosen
    where request.request_id = chosen.request_id
    returning
        chosen.request_id, chosen.action, chosen.feed, chosen.subject, chosen.reason, chosen.requested_by,
        chosen.requested_as, chosen.is_begun
"""


@dataclass(frozen=True)
class Request:
    """One row of ops.request."""

    request_id: int
    action: str
    feed: str | None
    subject: dict[str, Any]
    reason: str
    requested_by: str
    requested_as: str
    is_begun: bool


@dataclass(frozen=True)
class Undecided:
    """Something that an operator has to accept or reject: a batch, a finding or a proposal, and the text that says why."""

    kind: str
    subject: dict[str, Any]
    title: str
    text: str

    @property
    def markdown(self) -> str:
        """Its text as Airflow shows it, which reads Markdown, where names of files and headers are a partner's; and what to
        accept or to reject it means.
        """
        return f"{literal(self.text)}\n\n{MEANS[self.kind]}"

    @property
    def key(self) -> str:
        """The same for the same thing, and of no characters that a name may not have."""
        return key_of(self.kind, self.subject)


@dataclass(frozen=True)
class Ended:
    """What became of a request; `feed` is one whose rows may have been published."""

    request_id: int
    action: str
    state: str
    outcome: str
    feed: str | None


def run() -> list[Ended]:
    """Carry out the requests that wait, in order. Returns what became of them.

    One that fails for good says why and changes nothing. After one that may succeed later, or an unexpected error, the next
    have their turn, and the first such error is raised at the end; its request waits for the next run. Raises
    TransientFailure when another run is at work.
    """
    ended: list[Ended] = []
    tried: list[int] = []
    unexpected: Exception | None = None
    with lock("loader", "requests", "another `sampan requests run` is at work"):
        while request := _next(tried):
            tried.append(request.request_id)
            try:
                ended.append(_carry_out(request))
            except Exception as error:  # noqa: BLE001 - the next request has its turn
                log.error("request %s: %s", request.request_id, type(error).__name__)
                unexpected = unexpected or error
    if unexpected is not None:
        raise unexpected
    return ended


def requests(state: str | None = None, limit: int = 50) -> list[tuple[Any, ...]]:
    """Number, action, feed, state, who asked, when, reason and outcome of requests, the newest first."""
    query = """
        select request_id, action, feed, state, requested_by, requested_at, reason, outcome from ops.request
        where %s::text is null or state = %s
        order by request_id desc
        limit %s
    """
    with connect() as connection:
        return connection.execute(query, [state, state, limit]).fetchall()


def undecided(limit: int | None = 20) -> list[Undecided]:
    """What waits for an operator: held batches, then findings of marts, then the likeliest links; `limit` of each at most."""
    query = """
        select batch_id, feed, business_date, problem from ops.open_problem
        where batch_id is not null
        order by received_at
        limit %s
    """
    with connect() as connection:
        held = connection.execute(query, [limit]).fetchall()
    batches = [
        Undecided(
            "batch",
            {"batch_id": number, "feed": feed},
            f"Held: {feed} for {day}",
            ": ".join(filter(None, (problem.get("file"), problem["message"]))),
        )
        for number, feed, day, problem in held
    ]
    findings = [
        Undecided(
            "finding",
            {"mart": mart, "rule": rule},
            f"Finding: {mart} breaks a critical rule",
            f"Not met: {description} ({rule})",
        )
        for mart, rule, description, _, decision in map(dict.values, release.findings())
        if decision is None
    ]
    # Names of enterprises stay in the warehouse: Airflow keeps what it shows.
    proposals = [
        Undecided(
            "proposal",
            {"review_id": number},
            f"One enterprise? {key}, {proposed} ({source})",
            f"Likely to {probability}. Names and evidence: `sampan identity review show {number}`, or the desk",
        )
        for number, source, key, _, proposed, _, probability, *_ in review.list_proposals("open", limit)
    ]
    return [*batches, *findings[:limit], *proposals]


def find_undecided(kind: str, subject: Mapping[str, Any]) -> Undecided | None:
    """What waits for an operator under this kind and subject, with the text that says why; None when it does not wait."""
    return next((item for item in undecided(None) if (item.kind, item.subject) == (kind, subject)), None)


def key_of(kind: str, subject: Mapping[str, Any]) -> str:
    """The key of something to decide."""
    return "-".join([kind, *(str(value) for name, value in subject.items() if name != "feed")])


def open_keys() -> frozenset[str]:
    """The keys of all that waits for an operator, however much that is."""
    query = """
        select 'batch-' || batch_id from ops.open_problem where batch_id is not null
        union all
        select 'proposal-' || review_id from ops.identity_review where state = 'open'
    """
    with connect() as connection:
        found = [key for (key,) in connection.execute(query).fetchall()]
    findings = (item for item in release.findings() if item["decision"] is None)
    return frozenset([*found, *(key_of("finding", {"mart": it["mart"], "rule": it["rule"]}) for it in findings)])


def ask(kind: str, subject: Mapping[str, Any], accepted: bool, reason: str, by: str, run_id: str) -> None:
    """Ask for what a user of Airflow decided in a run; asking again for the same run changes nothing.

    Raises PermanentFailure when there is no reason.
    """
    require_reason(reason, Code.GATE_REASON)
    subject = {**subject, "run_id": run_id}
    with connect() as connection:
        connection.execute(
            """
            insert into ops.request (action, feed, subject, reason, requested_by, requested_as, state)
            select %(action)s, %(feed)s, %(subject)s, %(reason)s, %(by)s, %(as)s, 'waiting'
            where not exists (
                select from ops.request where requested_as = %(as)s and subject ->> 'run_id' = %(run_id)s
            )
            """,
            {
                "action": f"{'accept' if accepted else 'reject'}_{kind}",
                "feed": subject.get("feed"),
                "subject": Jsonb(subject),
                "reason": hidden(reason, expects_hkid=True).strip(),
                "by": by,
                "as": AIRFLOW,
                "run_id": run_id,
            },
        )


def decide(request_id: int, accepted: bool, reason: str, by: str) -> str:
    """Accept a steward's request, which carries it out at once, or refuse it. Returns what became of it.

    Raises PermanentFailure when it does not wait for a decision, when who asked for it accepts it, or when it cannot be
    carried out; it then has failed. Raises TransientFailure when another decision takes too long.
    """
    # One decision after the other: one that refuses what another is about to publish would say that nothing was published.
    with lock("loader", "requests", "another decision on a request is being carried out; try again", wait=PATIENCE):
        return _decided(request_id, accepted, reason, by)


def _decided(request_id: int, accepted: bool, reason: str, by: str) -> str:
    """As `decide`, for who holds the lock."""
    require_reason(reason, Code.GATE_REASON)
    with connect() as connection:
        own = "select from ops.request where request_id = %s and requested_by = %s"
        if accepted and connection.execute(own, [request_id, by]).fetchone() is not None:
            message = f"{by} asked for request {request_id}: another person has to accept it"
            raise PermanentFailure(Problem(Code.REQUEST_OWN, message))
        asked = _asked(connection, request_id)
        if not accepted:
            _refuse_if_accepted(connection, asked)
            outcome = f"refused by {by}: {reason}"
            _end(connection, asked, "refused", outcome)
            return outcome
        try:
            _require_allowed(connection, asked)
            outcome = _correct_rows(asked)
        except PermanentFailure as failure:
            if not _was_done(asked, failure):
                _end(connection, asked, "failed", _told(failure))
                raise
            outcome = DONE_BEFORE
        outcome = f"{outcome}, accepted by {by}: {reason}"
        _end(connection, asked, "done", outcome)
        return outcome


def _next(tried: list[int]) -> Request | None:
    """The next request that waits, marked as begun; None when there is no other than those that were tried."""
    first = "request_id = (select min(request_id) from ops.request where state = 'waiting' and request_id <> all(%s))"
    with connect() as connection:
        return _begun(connection, first, tried)


def _asked(connection: Connection, request_id: int) -> Request:
    """A request that waits for a decision, marked as begun."""
    found = _begun(connection, "request_id = %s and state = 'asked'", request_id)
    if found is None:
        raise PermanentFailure(Problem(Code.REQUEST_NOT_ASKED, f"request {request_id} does not wait for a decision"))
    return found


def _begun(connection: Connection, which: LiteralString, value: object) -> Request | None:
    with connection.cursor(row_factory=class_row(Request)) as cursor:
        return cursor.execute(BEGIN.format(which), [value]).fetchone()


def _refuse_if_accepted(connection: Connection, request: Request) -> None:
    """Raise PermanentFailure when a run that died accepted the request, and its rows are published or will be."""
    if not request.is_begun:
        return
    rows = request.subject.get("rows")
    ids = [str(row.get(quarantine.ID)) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    found = connection.execute(
        """
        select batch.batch_id from ops.replay_line as line
        join ops.batch using (batch_id)
        where line.feed = %s and line.quarantine_id::text = any(%s) and batch.state not in ('held', 'withdrawn')
        order by batch.batch_id desc
        limit 1
        """,
        [request.feed, ids],
    ).fetchone()
    if found is not None:
        message = (
            f"request {request.request_id} was accepted before, and its rows are in batch {found[0]}: accept it again to"
            f" end it, and `sampan withdraw {request.feed} --batch {found[0]}` takes the rows back"
        )
        raise PermanentFailure(Problem(Code.QUARANTINE_UNDER_WAY, message))


def _was_done(request: Request, failure: PermanentFailure) -> bool:
    return request.is_begun and failure.problem.rule in WAS_DONE


def _carry_out(request: Request) -> Ended:
    feed = None
    with connect() as connection:
        try:
            _require_allowed(connection, request)
            outcome, feed = ACTIONS[request.action](request)
            state = "done"
        except PermanentFailure as failure:
            is_done = _was_done(request, failure)
            state, outcome = ("done", DONE_BEFORE) if is_done else ("failed", _told(failure))
        _end(connection, request, state, outcome)
    log.info("request %s of %s, %s: %s", request.request_id, request.requested_by, request.action, outcome)
    return Ended(request.request_id, request.action, state, outcome, feed)


def _require_allowed(connection: Connection, request: Request) -> None:
    """Raise PermanentFailure when the login is gone, or does not have the role any more."""
    if request.requested_as == AIRFLOW:
        return
    allowed = connection.execute(
        """
        select from pg_roles as login
        join pg_roles as needed on needed.rolname = %s
        where login.rolname = %s and login.rolcanlogin and pg_has_role(login.oid, needed.oid, 'usage')
        """,
        [request.requested_as, request.requested_by],
    ).fetchone()
    if allowed is None:
        message = f"{request.requested_by} asked as {request.requested_as} and is not a member of it any more"
        raise PermanentFailure(Problem(Code.REQUEST_NOT_ALLOWED, message))


def _end(connection: Connection, request: Request, state: str, outcome: str) -> None:
    connection.execute(
        """
        update ops.request
        set state = %s, outcome = %s, ended_at = clock_timestamp(), started_at = coalesce(started_at, clock_timestamp()),
            subject = case jsonb_typeof(subject -> 'rows')
                when 'array' then subject - 'rows' || jsonb_build_object('row_count', jsonb_array_length(subject -> 'rows'))
                else subject - 'rows'
            end
        where request_id = %s and state in ('asked', 'waiting')
        """,
        [state, outcome, request.request_id],
    )


def _told(failure: PermanentFailure) -> str:
    """A failure for the person who asked: without the file of this machine that a message may name."""
    problem = failure.problem
    line = f"line {problem.line}: " if problem.line else ""
    return f"{line}{problem.message} [{problem.rule}]"


# --- actions ----------------------------------------------------------------------------------------------------------


def _subject(request: Request, name: str, kind: type) -> Any:
    """A value of the subject, which a login may write past the pages, in any form."""
    value = request.subject.get(name)
    if (
        not isinstance(value, kind)
        or isinstance(value, bool)
        or (isinstance(value, int) and not 0 < value <= LARGEST_ID)
    ):
        raise PermanentFailure(Problem(Code.REQUEST_SUBJECT, f"{request.action} does not say which {name}"))
    return value


def rows_of(subject: Mapping[str, Any]) -> list[dict[str, str | None]]:
    """The corrected rows of a subject: each with the same columns, of texts. A column that one lacks would be emptied there.

    Raises PermanentFailure when they are something else: a login may write them past the pages, in any form.
    """
    rows = subject.get("rows")
    if not isinstance(rows, list):
        raise PermanentFailure(Problem(Code.REQUEST_SUBJECT, "the request does not say which rows"))
    of_texts = all(isinstance(row, dict) and all(isinstance(v, str | None) for v in row.values()) for row in rows)
    if not (rows and of_texts and all(row.keys() == rows[0].keys() for row in rows)):
        raise PermanentFailure(Problem(Code.REQUEST_SUBJECT, "rows are not objects of texts with the same columns"))
    return list(rows)


def _batch(request: Request) -> tuple[int, str, Any]:
    """Number, feed and business date of the batch that a request is about."""
    number = _subject(request, "batch_id", int)
    with connect() as connection:
        found = connection.execute("select feed, business_date from ops.batch where batch_id = %s", [number]).fetchone()
    if found is None:
        raise PermanentFailure(Problem(Code.GATE_ACCEPT, f"batch {number} is not held"))
    return number, *found


def _accept_batch(request: Request) -> tuple[str, str | None]:
    number, feed, day = _batch(request)
    try:
        gate.accept(feed, day, request.reason, request.requested_by, number)
    finally:
        # Also when it was accepted by a run that died before it published.
        publish.run(feed, day)
        lake.follow(feed)
    return f"batch {number} of {feed} is published", feed


def _reject_batch(request: Request) -> tuple[str, str | None]:
    number, feed, day = _batch(request)
    gate.reject(number, request.reason, request.requested_by)
    return f"batch {number} of {feed} is rejected; {day} waits for another delivery", None


def _decide_finding(verdict: str) -> Callable[[Request], tuple[str, str | None]]:
    def carry_out(request: Request) -> tuple[str, str | None]:
        mart, rule = _subject(request, "mart", str), _subject(request, "rule", str)
        release.decide(mart, rule, verdict, request.reason, request.requested_by)
        return f"finding {rule} of {mart} is {verdict}, from the next refresh on", None

    return carry_out


def _decide_proposal(verdict: str, decision: Callable[[int, str, str], None]) -> Callable[[Request], Any]:
    def carry_out(request: Request) -> tuple[str, str | None]:
        number = _subject(request, "review_id", int)
        decision(number, request.reason, request.requested_by)
        return f"proposal {number} is {verdict}, from the next refresh on", None

    return carry_out


def _decide_request(accepted: bool) -> Callable[[Request], tuple[str, str | None]]:
    def carry_out(request: Request) -> tuple[str, str | None]:
        number = _subject(request, "request_id", int)
        outcome = _decided(number, accepted, request.reason, request.requested_by)
        with connect() as connection:
            feed = scalar(connection, "select feed from ops.request where request_id = %s", [number])
        return f"request {number}: {outcome}", feed if accepted else None

    return carry_out


ACTIONS: Mapping[str, Callable[[Request], tuple[str, str | None]]] = {
    "accept_batch": _accept_batch,
    "reject_batch": _reject_batch,
    "accept_finding": _decide_finding("accepted"),
    "reject_finding": _decide_finding("rejected"),
    "accept_proposal": _decide_proposal("accepted", review.accept),
    "reject_proposal": _decide_proposal("rejected", review.reject),
    "accept_request": _decide_request(True),
    "reject_request": _decide_request(False),
}


def _correct_rows(request: Request) -> str:
    """Replay the rows as the steward corrected them: `rows` has the columns of the export by name, one object per row."""
    contract = get_contract(str(request.feed))
    rows = rows_of(request.subject)
    names = list(rows[0])
    with tempfile.TemporaryDirectory(prefix="sampan-request-") as folder:
        file = Path(folder) / "corrected.csv"
        with file.open("w", encoding="utf-8", newline="") as out:
            out.write(f"{csv_line(names)}\n")
            for row in rows:
                out.write(f"{csv_line([row.get(name) or '' for name in names])}\n")
        done = quarantine.replay(contract.feed, corrected=file)
    return ", ".join(f"{count} {what}" for what, count in done.items())
