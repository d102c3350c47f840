"""The steward's desk: own deliveries, own rejected rows with their rules in words, corrections, and how to deliver."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import date
from typing import Any

from psycopg import sql
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sampan.contracts.model import Contract
from sampan.contracts.registry import all_contracts
from sampan.desk import uploads
from sampan.desk.preview import Previewed, preview, try_delivery
from sampan.desk.sessions import TURNS
from sampan.desk.visit import Row, Visit, as_id
from sampan.errors import PermanentFailure, Problem
from sampan.ingest.quarantine import ID, RULES
from sampan.reading.record import csv_line
from sampan.text import printable, spreadsheet_text

DELIVERIES, ROWS, PREVIEWED = 60, 25, 100
MOST_DOWNLOADED = uploads.MOST_ROWS
# Rules to choose from that stand above the rows; the others are folded.
FIRST_RULES = 6
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def feeds(visit: Visit) -> Response:
    """The feeds of this steward's partner, and how each stands."""
    found = visit.rows(
        """
        select
            feed.feed,
            (
                select count(*) from desk.delivery
                where delivery.feed = feed.feed and delivery.state in ('held', 'refused') and delivery.is_open
            ) as held,
            (select max(business_date) from desk.delivery where delivery.feed = feed.feed and state = 'published') as newest
        from desk.feed
        where feed.is_steward
        order by feed.feed
        """
    )
    known = [row | {"contract": all_contracts()[row["feed"]]} for row in found if row["feed"] in all_contracts()]
    for row in known:
        query = _of_view(row["feed"], "select count(*) as open_count from {} where state = 'open'")
        row |= visit.connection.execute(query).fetchone() or {}
    return visit.page("feeds.html", feeds=known)


def feed(visit: Visit) -> Response:
    """One feed: its newest deliveries and what became of each."""
    contract = _contract(visit)
    found = visit.rows(
        "select * from desk.delivery where feed = %s order by received_at desc, batch_id desc limit %s",
        contract.feed,
        DELIVERIES,
    )
    return visit.page("feed.html", contract=contract, deliveries=found)


def how(visit: Visit) -> Response:
    """How to deliver: address, format, columns and rules, from the contract."""
    contract = _contract(visit)
    return visit.page("how.html", contract=contract, bucket=visit.config.drop_bucket)


def rows(visit: Visit) -> Response:
    """Rejected rows that are open, some at a time, with every rule that each broke."""
    contract = _contract(visit)
    after, rule = as_id(visit.request.query_params.get("after", "0")), visit.request.query_params.get("rule", "")
    query = """
        select * from {}
        where state = 'open' and quarantine_id > %s and (%s = '' or %s = any(broken_rules))
        order by quarantine_id
        limit %s
    """
    found = visit.connection.execute(_of_view(contract.feed, query), [after, rule, rule, ROWS + 1]).fetchall()
    counts = visit.connection.execute(
        _of_view(
            contract.feed,
            """
            select rule, count(*) as n from {} cross join unnest(broken_rules) as rule
            where state = 'open'
            group by rule
            order by n desc, rule
            """,
        )
    ).fetchall()
    following = found[ROWS - 1]["quarantine_id"] if len(found) > ROWS else None
    return visit.page(
        "rows.html", contract=contract, rows=found[:ROWS], counts=counts, rule=rule, following=following,
        most=MOST_DOWNLOADED, details=_details, first_rules=FIRST_RULES,
    )  # fmt: skip


def download(visit: Visit) -> Response:
    """Open rejected rows to correct, as CSV or XLSX. No cell of them is a formula."""
    contract, ending = _contract(visit), visit.request.path_params["ending"]
    if ending not in ("csv", "xlsx"):
        raise HTTPException(404)
    query = "select quarantine_id, broken_rules, fields from {} where state = 'open' order by quarantine_id limit %s"
    found = visit.connection.execute(_of_view(contract.feed, query), [MOST_DOWNLOADED]).fetchall()
    lines = [[ID, RULES, *(column.name for column in contract.stored)], *_exported(contract, found)]
    if ending == "csv":
        body, kind = "".join(f"{csv_line(line)}\r\n" for line in lines).encode("utf-8-sig"), "text/csv; charset=utf-8"
    else:
        body, kind = _workbook(lines), XLSX
    name = f"{contract.feed}-rejected.{ending}"
    return Response(body, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})


def corrections(visit: Visit) -> Response:
    """Upload corrected rows and see what the gate would say. Nothing is stored but in the memory of this session."""
    contract = _contract(visit)
    if visit.request.method == "GET":
        return visit.page("corrections.html", contract=contract, problem=None, most=uploads.MOST_BYTES)
    name, body = visit.upload()
    problem: Problem | str | None = None
    found: list[Previewed] = []
    if body:
        try:
            with TURNS.of(visit.session.login):
                found = preview(visit.connection, contract, uploads.read(contract, name, body))
        except PermanentFailure as failure:
            problem = failure.problem
    else:
        problem = visit.words.text("needs_file")
    if problem is None and not found:
        problem = visit.words.text("nothing_changed")
    if problem is not None:
        visit.session.drafts.pop(contract.feed, None)
        return visit.page("corrections.html", 400, contract=contract, problem=problem, most=uploads.MOST_BYTES)
    visit.session.drafts[contract.feed] = [row.given for row in found]
    return _previewed(visit, contract, found)


def attempt(visit: Visit) -> Response:
    """What the gate would say of a file that is not delivered yet. Nothing is stored."""
    contract = _contract(visit)
    values: dict[str, Any] = {"contract": contract, "most": uploads.MOST_BYTES, "tried": None, "problem": None}
    if visit.request.method == "GET":
        return visit.page("attempt.html", **values)
    name, body = visit.upload()
    if not body:
        return visit.page("attempt.html", 400, **values | {"problem": visit.words.text("needs_file")})
    try:
        day = date.fromisoformat(str(visit.form.get("day", "")))
        with TURNS.of(visit.session.login):
            tried = try_delivery(visit.connection, contract, day, name, body)
    except ValueError:
        return visit.page("attempt.html", 400, **values | {"problem": visit.words.text("needs_day")})
    except PermanentFailure as failure:
        return visit.page("attempt.html", 400, **values | {"problem": failure.problem})
    held = len(tried.broken) > contract.budget * tried.rows
    return visit.page("attempt.html", **values | {"tried": tried, "held": held, "shown": tried.broken[:PREVIEWED]})


def send(visit: Visit) -> Response:
    """Send what was previewed as a request, which an operator decides."""
    contract = _contract(visit)
    draft: list[Row] | None = visit.session.drafts.get(contract.feed)
    if draft is None:
        return visit.go(f"feeds/{contract.feed}/corrections")
    reason = visit.reason()
    if reason is None:
        # Also again where somebody has corrected one of the rows meanwhile.
        try:
            return _previewed(visit, contract, preview(visit.connection, contract, draft), "needs_reason")
        except PermanentFailure as failure:
            problem = failure.problem
            return visit.page("corrections.html", 400, contract=contract, problem=problem, most=uploads.MOST_BYTES)
    number = visit.ask("correct_rows", {"feed": contract.feed, "rows": draft}, reason)
    del visit.session.drafts[contract.feed]
    return visit.go(f"requests/{number}")


def _previewed(visit: Visit, contract: Contract, found: list[Previewed], problem: str | None = None) -> Response:
    sound = sum(not row.broken for row in found)
    return visit.page(
        "preview.html", 400 if problem else 200, contract=contract, rows=found[:PREVIEWED], all=len(found), sound=sound,
        problem=problem,
    )  # fmt: skip


def _contract(visit: Visit) -> Contract:
    """The contract of the feed in the path, when the database shows the feed to this steward."""
    name = visit.request.path_params["feed"]
    visit.row("select feed from desk.feed where feed = %s and is_steward", name)
    contract = all_contracts().get(name)
    if contract is None:
        raise HTTPException(404)
    return contract


def _of_view(feed: str, query: str) -> sql.Composed:
    return sql.SQL(query).format(sql.Identifier("quarantine", f"{feed}__rows"))


def _details(row: Row) -> list[tuple[str | None, str, str | None]]:
    """(column, rule, value) of each rule that a row broke."""
    fields = row["fields"] or {}
    found = []
    for rule in row["broken_rules"]:
        column, _, check = rule.partition(".")
        known = column in fields and bool(check)
        found.append((column if known else None, rule, fields.get(column) if known else None))
    return found


def _exported(contract: Contract, found: list[Row]) -> Iterator[list[str]]:
    """As `quarantine.export` writes them."""
    for row in found:
        fields = row["fields"] or {}
        values = [spreadsheet_text(fields.get(column.name) or "") for column in contract.stored]
        yield [str(row["quarantine_id"]), " ".join(row["broken_rules"]), *values]


def _workbook(lines: list[list[str]]) -> bytes:
    import xlsxwriter

    out = io.BytesIO()
    # Text stays text: no cell becomes a formula, a link or another number than the one that was delivered.
    names = ("strings_to_formulas", "strings_to_urls", "strings_to_numbers")
    options: dict[str, Any] = {"in_memory": True} | dict.fromkeys(names, False)
    with xlsxwriter.Workbook(out, options) as book:
        head, text = book.add_format({"bold": True, "bottom": 1}), book.add_format({"num_format": "@"})
        sheet = book.add_worksheet("rejected")
        sheet.freeze_panes(1, 1)
        sheet.set_column(0, max(map(len, lines)) - 1, 18, text)
        for number, line in enumerate(lines):
            for place, value in enumerate(line):
                sheet.write_string(number, place, printable(value), text if number else head)
    return out.getvalue()
