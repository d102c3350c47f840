"""Failures, fallbacks and paging of APIs, handled as the contract describes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import pytest
from sampan.contracts.model import Request
from sampan.contracts.registry import all_contracts, get_contract
from sampan.errors import PermanentFailure, TransientFailure
from sampan.ingest import api
from sampan.ingest.http_client import Client
from tenacity import wait_none

DAY = date(2026, 8, 14)
Answer = tuple[int, dict[str, str], bytes]


def ok(records: list[dict], **header: object) -> Answer:
    status = {"name": "Success", "code": 0, "message": []}
    return 200, {}, json.dumps({"header": {"status": status} | header, "dataSet": records}).encode()


def fail(*messages: str) -> Answer:
    status = {"name": "Fail", "code": 1, "message": list(messages)}
    return 200, {}, json.dumps({"header": {"status": status}}).encode()


@dataclass
class Partner:
    """An HTTP server that answers each request by `turn`, which is given (number, path, query, cookie header)."""

    turn: Callable[[int, str, dict[str, str], str], Answer] = lambda *_: ok([])
    asked: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def partner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Partner]:
    known = Partner()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            query = dict(parse_qsl(address.query, keep_blank_values=True))
            known.asked.append(query)
            known.paths.append(self.path)
            cookie = self.headers.get("Cookie", "")
            status, headers, body = known.turn(len(known.asked), address.path, query, cookie)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(api, "wait_exponential", lambda **_: wait_none())
    yield known
    server.shutdown()
    server.server_close()


def request_of(feed: str, name: str, partner: Partner, **changes: object) -> Request:
    """A request of a contract, sent to the test's server."""
    found = next(request for request in get_contract(feed).source.requests if request.name == name)
    path = urlsplit(found.location).path
    return replace(found, location=partner.url + path, base="", base_variable="", pause_seconds=0, **changes)


def asked(request: Request, day: date = DAY) -> list[dict]:
    with Client(1 << 26) as client:
        return list(api._records(client, request, day))


def small(partner: Partner, **changes: object) -> Request:
    """The Trade-IDDS request of the contract, for one flow and one batch of three chapters."""
    batch = {"parameter": "code", "size": 20, "values": ["01", "02", "03"]}
    plan = {"each": ([{"ttype": "1"}],), "batch": batch} | changes
    return request_of("csd_trade_statistics", "trade_idds", partner, **plan)


def cell(**values: object) -> dict:
    return {"freq": "M", "period": "202606", "ttype": "1", "codeclass": "HKHS2", "code": "01", "sv": "VCm"} | values


# --- soft failures ----------------------------------------------------------------------------------------------------


def test_month_that_is_not_out_is_stepped_back_from_once_for_all_requests(partner, capfd):
    def turn(number, path, query, cookie):
        last = query["period"].split(",")[1]
        return fail(f"Period code ({last}) is not defined") if last > "202606" else ok([cell(period=last)])

    partner.turn = turn
    found = asked(small(partner, each=([{"ttype": "1"}, {"ttype": "2"}],)))
    assert [record["period"] for record in found] == ["202606", "202606"]
    assert [query["period"] for query in partner.asked] == [
        "202507,202608", "202506,202607", "202505,202606", "202505,202606",
    ]  # fmt: skip
    # Kind of fault: what the contract foresees is a warning on the screen of who runs the demo.
    assert "not defined" not in capfd.readouterr().err


def test_nothing_defined_at_all_is_transient_after_a_year_of_steps(partner):
    partner.turn = lambda *_: fail("Period code (202608) is not defined")
    with pytest.raises(TransientFailure, match="no data available from"):
        asked(small(partner))
    assert len(partner.asked) <= api.MAX_STEPS_BACK + 4


def test_codes_that_an_answer_names_are_dropped_and_the_others_asked_again(partner):
    partner.turn = lambda number, *_: fail("Commodity code (02, 03) is not defined") if number == 1 else ok([cell()])
    assert [record["code"] for record in asked(small(partner))] == ["01"]
    assert [query["code"] for query in partner.asked] == ["01,02,03", "01"]


def test_request_whose_every_code_is_named_has_no_records(partner):
    partner.turn = lambda *_: fail("Commodity code (01,02,03) is not defined")
    assert asked(small(partner)) == []
    assert len(partner.asked) == 1


def test_naming_what_was_not_asked_for_is_permanent(partner):
    partner.turn = lambda *_: fail("Commodity code (99) is not defined")
    with pytest.raises(PermanentFailure, match="rejects values that were not requested"):
        asked(small(partner))


@pytest.mark.parametrize("message", ["Usage limit exceeded", "too many requests from this address"])
def test_usage_limit_is_waited_out(partner, message):
    partner.turn = lambda number, *_: fail(message) if number < 3 else ok([cell()])
    assert len(asked(small(partner))) == 1
    assert len(partner.asked) == 3


def test_failure_with_http_200_that_the_contract_does_not_know_is_transient(partner):
    partner.turn = lambda *_: fail("Something else", "and more")
    with pytest.raises(TransientFailure, match="Something else; and more"):
        asked(request_of("csd_insured_exports", "web_table", partner))
    assert len(partner.asked) == 4


def test_session_cookie_of_a_redirect_is_kept(partner):
    def turn(number, path, query, cookie):
        if path == "/api/get":
            location = f"/api/abc/get?period={query['period']}&code={query['code']}"
            return 302, {"Location": location, "Set-Cookie": "session=abc; Path=/"}, b""
        return ok([cell(code=query["code"])]) if "session=abc" in cookie else fail("Session expired")

    partner.turn = turn
    assert [record["code"] for record in asked(small(partner))] == ["01,02,03"]


def test_codes_are_asked_for_twenty_at_a_time_for_every_flow_and_partner(partner):
    request = request_of("csd_trade_statistics", "trade_idds", partner)
    assert asked(request) == []
    sizes = [len(query["code"].split(",")) for query in partner.asked]
    assert max(sizes) == 20
    assert sum(sizes) == 96 * 4 * 9
    plan = {(query["ttype"], query.get("ccclass"), query.get("cc")) for query in partner.asked}
    assert len(plan) == 4 * 9
    assert ("4", None, None) in plan
    assert ("1", "C", "CN") in plan


@pytest.mark.parametrize(
    ("figure", "unit"),
    [(31400, "HK$'000"), ("31,400", "HK$'000"), ("", "HK$'000"), ("-", "HK$'000"), ("..", "HK$'000"), ("HK$'000", "7")],
)
def test_figures_are_kept_as_they_came(partner, figure, unit):
    partner.turn = lambda *_: ok([cell(figure=figure, unitEN=unit, cc="CN", co="")])
    (record,) = asked(small(partner))
    assert (record["figure"], record["unit"], record["partner"], record["origin"]) == (figure, unit, "CN", "ALL")


@pytest.mark.parametrize(
    "figure", ["123456789012345678.12", "1.10", "3.2", "-0.5", "7", "1e400", "12345678901234567890"]
)
def test_numbers_are_kept_as_they_were_written(partner, figure):
    status, headers, body = ok([cell(figure="@")])
    partner.turn = lambda *_: (status, headers, body.replace(b'"@"', figure.encode()))
    source = replace(get_contract("csd_trade_statistics").source, requests=(small(partner),))
    landed = api.response_body(replace(get_contract("csd_trade_statistics"), source=source), DAY)
    (record,) = landed.splitlines()
    assert json.loads(record, parse_float=str, parse_int=str)["figure"] == figure


def test_half_a_character_is_landed_as_it_was_spelt(partner):
    partner.turn = lambda *_: ok([cell(unitEN="\ud83d"), cell(unitEN="\U0001f600")])
    source = replace(get_contract("csd_trade_statistics").source, requests=(small(partner),))
    landed = api.response_body(replace(get_contract("csd_trade_statistics"), source=source), DAY).decode()
    assert [json.loads(line)["unit"] for line in landed.splitlines()] == ["\ud83d", "\U0001f600"]


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"dataSet": [' + b'{"a": ' * 990 + b"1" + b"}" * 990 + b"]}"],
    ids=["endless", "nested"],
)
def test_an_answer_that_is_nested_too_deeply_is_permanent(partner, body):
    partner.turn = lambda *_: (200, {}, body)
    source = replace(
        get_contract("csd_trade_statistics").source, requests=(small(partner, success={}, records="dataSet"),)
    )
    with pytest.raises(PermanentFailure) as failure:
        api.response_body(replace(get_contract("csd_trade_statistics"), source=source), DAY)
    assert failure.value.problem.rule == "api.shape"
    assert len(partner.asked) == 1


def test_web_table_gives_monthly_totals_only(partner):
    rows = [
        {"freq": "M", "period": "202606", "sv": "VAL_TX", "svDesc": "HK$ million", "figure": 31400, "sd_value": "p"},
        {"freq": "Y", "period": "2025", "sv": "VAL_TX", "svDesc": "HK$ million", "figure": 1, "sd_value": ""},
        {"freq": "M", "period": "202606", "sv": "RATE", "svDesc": "%", "figure": 3.2, "sd_value": ""},
    ]
    partner.turn = lambda *_: ok(rows)
    (record,) = asked(request_of("csd_trade_statistics", "web_table", partner))
    assert (record["flow"], record["code"], record["partner"], record["status"]) == ("VAL_TX", "TOTAL", "ALL", "p")
    assert partner.asked == [{"id": "410-50001", "lang": "en", "full_series": "1"}]


# --- failures by status -----------------------------------------------------------------------------------------------


def lookup(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> Request:
    monkeypatch.setattr(
        api, "_expand", lambda entry, day: [{entry["parameter"]: brn} for brn in ("90000007", "90000014")]
    )
    return request_of("companies_registry", "local", partner)


def test_no_match_is_no_record_though_it_is_http_400(partner, monkeypatch):
    company = {"Brn": "90000014", "English_Company_Name": "SYNTHETIC LIMITED", "Re-domiciliation_Date": None}

    def turn(number, path, query, cookie):
        if query["query[0][key3]"] == "90000014":
            return 200, {}, json.dumps([company]).encode()
        return 400, {}, b'{"status":400,"message":"No result found."}'

    partner.turn = turn
    assert [record["brn"] for record in asked(lookup(partner, monkeypatch))] == ["90000014"]
    assert "query[0][key1]=Brn&query[0][key2]=equal" in partner.paths[0], "brackets must not be percent-encoded"


def test_empty_list_is_no_match_either(partner, monkeypatch):
    partner.turn = lambda *_: (200, {}, b"[]")
    assert asked(lookup(partner, monkeypatch)) == []


def test_wrong_input_is_permanent(partner, monkeypatch):
    partner.turn = lambda *_: (400, {}, b'{"status":400,"message":"Invalid requested Input Value."}')
    with pytest.raises(PermanentFailure, match="Invalid requested Input Value"):
        asked(lookup(partner, monkeypatch))
    assert len(partner.asked) == 1


@pytest.mark.parametrize("status", [200, 422])
def test_resource_that_does_not_exist_is_permanent(partner, status):
    partner.turn = lambda *_: (status, {}, b'{"code":"422","message":"Not a valid resource"}')
    with pytest.raises(PermanentFailure, match="Not a valid resource"):
        asked(request_of("datagovhk_catalogue", "ckan", partner))
    assert len(partner.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        pytest.param(404, b"", PermanentFailure, id="404"),
        pytest.param(403, b"no", PermanentFailure, id="403"),
        pytest.param(429, b"slow down", TransientFailure, id="429"),
        pytest.param(503, b"", TransientFailure, id="503"),
        pytest.param(200, b"<html>maintenance</html>", TransientFailure, id="html"),
        pytest.param(200, b"", TransientFailure, id="nothing"),
    ],
)
def test_status_decides_where_the_contract_is_silent(partner, status, body, failure):
    partner.turn = lambda *_: (status, {}, body)
    with pytest.raises(failure):
        asked(request_of("hk_public_holidays", "en", partner))


class Clock:
    """Seconds that a client slept, without waiting for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept: list[float] = []
        monkeypatch.setattr("tenacity.nap.time.sleep", self.slept.append)


@pytest.mark.parametrize("status", [429, 503, 500])
def test_an_api_is_not_asked_before_it_says(status, partner, monkeypatch):
    clock = Clock(monkeypatch)
    partner.turn = lambda n, *_: (status, {"Retry-After": "7"}, b"{}") if n < 3 else ok([cell()])
    assert len(asked(small(partner))) == 1
    assert clock.slept == [7.0, 7.0]


def test_an_api_may_say_when_by_a_date(partner, monkeypatch):
    clock = Clock(monkeypatch)
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    partner.turn = lambda n, *_: (429, {"Retry-After": until}, b"{}") if n < 2 else ok([cell()])
    assert len(asked(small(partner))) == 1
    (slept,) = clock.slept
    assert 15 < slept <= 20


def test_an_api_that_asks_to_wait_long_is_not_asked_again(partner, monkeypatch):
    """Kind of fault: one API keeps the feeds behind it waiting, or is asked though it asks not to be."""
    clock = Clock(monkeypatch)
    partner.turn = lambda *_: (429, {"Retry-After": "120"}, b"{}")
    with pytest.raises(TransientFailure, match=r"HTTP 429: \{\}; the API asks to wait 120 seconds"):
        asked(small(partner))
    assert (len(partner.asked), clock.slept) == (1, [])


@pytest.mark.parametrize(
    "written",
    [
        "",
        "soon",
        "-5",
        "1e9",
        "Wed, 99 Foo 2026",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "٣",
    ],
)
def test_a_wait_that_is_none_is_not_waited_for(written, partner, monkeypatch):
    clock = Clock(monkeypatch)
    partner.turn = lambda n, *_: (429, {"Retry-After": written.encode().decode("latin-1")}, b"{}") if n < 2 else ok([])
    asked(small(partner))
    assert clock.slept == [0]


def test_answer_without_the_list_that_was_promised_is_permanent(partner):
    partner.turn = lambda *_: (200, {}, b'{"header":{"status":{"name":"Success"}},"dataSet":null}')
    with pytest.raises(PermanentFailure, match="has no list of records"):
        asked(request_of("csd_insured_exports", "web_table", partner))


def test_host_that_does_not_answer_is_transient(partner):
    request = replace(request_of("hk_public_holidays", "en", partner), location="http://127.0.0.1:9/none")
    with pytest.raises(TransientFailure, match="ConnectError"):
        asked(request)


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_nested_calendar_behind_a_byte_order_mark_is_opened(partner):
    event = {
        "dtstart": ["20260101", {"value": "DATE"}],
        "dtend": ["20260102", {"value": "DATE"}],
        "uid": "20260101@1823.gov.hk",
        "summary": "一月一日",
    }
    body = b"\xef\xbb\xbf" + json.dumps({"vcalendar": [{"vevent": [event]}, {"vevent": [event]}]}).encode()
    partner.turn = lambda *_: (200, {}, body)
    found = asked(request_of("hk_public_holidays", "tc", partner))
    record = {"language": "tc", "uid": "20260101@1823.gov.hk", "starts_on": "20260101", "ends_on": "20260102"}
    assert found == [record | {"summary": "一月一日"}] * 2


def test_catalogue_is_paged_and_its_resources_summed_up(partner):
    packages = [
        {
            "name": f"set-{number}",
            "title": "Synthetic",
            "organization": {"name": "dept"},
            "metadata_modified": "2026-08-01T00:00:00",
            "resources": [{"format": "CSV", "url": "u", "dateCreated": "31-01-2026"}, {"format": None}][: number % 3],
        }
        for number in range(7)
    ]

    def turn(number, path, query, cookie):
        start, rows = int(query["start"]), int(query["rows"])
        result = {"count": 7, "results": packages[start : start + rows]}
        return 200, {}, b"\xef\xbb\xbf" + json.dumps({"success": True, "result": result}).encode()

    partner.turn = turn
    paging = {"style": "offset", "limit": "rows", "offset": "start", "size": 3}
    found = asked(request_of("datagovhk_catalogue", "ckan", partner, pagination=paging))
    assert [record["name"] for record in found] == [f"set-{number}" for number in range(7)]
    assert [record["formats"] for record in found[:3]] == ["", "CSV", "CSV;unknown"]
    assert [record["resource_count"] for record in found[:3]] == [0, 1, 2]
    assert found[1]["first_created"] == "31-01-2026"
    assert found[0]["first_created"] is None
    assert [query["start"] for query in partner.asked] == ["0", "3", "6"]


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{business_date}", "2026-03-31"),
        ("{business_date-45}", "2026-02-14"),
        ("{business_date+1}", "2026-04-01"),
        ("{business_date:%Y%m}", "202603"),
        ("{business_date-1m:%Y%m}", "202602"),
        ("{business_date-13m:%Y%m},{business_date:%Y%m}", "202502,202603"),
        ("{business_date-3m:%Y}", "2025"),
        ("plain", "plain"),
    ],
)
def test_dates_are_put_into_parameters(text, filled):
    assert api._render_dates({"x": text}, date(2026, 3, 31)) == {"x": filled}


def test_months_before_are_never_skipped():
    for day in (date(2026, 3, 31), date(2026, 1, 1), date(2024, 2, 29)):
        months = [api._render_dates({"": f"{{business_date-{back}m:%Y%m}}"}, day)[""] for back in range(14)]
        numbers = [int(month[:4]) * 12 + int(month[4:]) for month in months]
        assert numbers == list(range(numbers[0], numbers[0] - 14, -1))


def test_every_api_of_the_contracts_is_known_here():
    names = {(feed, request.name) for feed, contract in all_contracts().items() for request in contract.source.requests}
    assert len(names) >= 9
