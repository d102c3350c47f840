"""fetch: what an open-data API may do wrong, and what becomes of it."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
from datetime import date
from urllib.parse import parse_qsl, urlsplit

import pytest
from sampan.contracts.registry import get_contract
from sampan.errors import PermanentFailure, TransientFailure
from sampan.ingest import api as api_client
from sampan.ingest import fetch
from sampan.settings import settings

from tests.conftest import SHARED
from tests.factory import DAY, Api, json_line, rows, stored

FEED = "hkma_exchange_rates"
CONTRACT = get_contract(FEED)
(REQUEST,) = CONTRACT.source.requests
SIZE = int(REQUEST.pagination["size"])
CAPTURED = SHARED / "hkma_er_eeri_daily_2026-02.json"


@pytest.fixture
def api(sampan, monkeypatch):
    monkeypatch.setattr(api_client, "wait_exponential", lambda **_: lambda state: 0)
    with Api(CONTRACT) as api:
        monkeypatch.setenv(REQUEST.base_variable, api.url)
        settings.cache_clear()
        yield api
    settings.cache_clear()


def records(count: int) -> list[str]:
    headings, kinds = [c.source_name for c in CONTRACT.columns], [c.type for c in CONTRACT.columns]
    return [json_line(headings, kinds, [row[c.name] for c in CONTRACT.columns]) for row in rows(FEED, count)]


def drop(sampan) -> list[str]:
    bucket = sampan.environment["SAMPAN_DROP_BUCKET"]
    found = sampan.s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    return [sampan.s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read().decode() for item in found]


@pytest.mark.parametrize("count", [1, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE, 2 * SIZE + 7])
def test_fetch_asks_every_page_when_there_are_several(count, api, sampan):
    api.records = [json.dumps({"end_of_day": str(number)}) for number in range(count)]
    assert fetch.run(FEED, DAY) == {"seen": 1}
    (body,) = drop(sampan)
    assert [json.loads(line) for line in body.splitlines()] == [json.loads(record) for record in api.records]


def test_fetch_asks_as_of_the_business_date_when_one_is_given(api):
    api.records = records(1)
    fetch.run(FEED, date(2026, 3, 31))
    assert (api.asked[0]["from"], api.asked[0]["to"]) == ("2025-02-24", "2026-03-31")


def test_fetch_makes_no_second_delivery_when_the_answer_is_the_same(api, sampan):
    api.records = records(3)
    assert fetch.run(FEED, DAY) == {"seen": 1}
    assert fetch.run(FEED, DAY) == {"seen": 0}
    assert len(drop(sampan)) == 1


def altered(path: str, value: object, only: int | None = None):
    """Answers in which the value at a dotted path is another."""

    def turn(number: int, status: int, body: bytes) -> tuple[int, bytes]:
        if only is not None and number != only:
            return status, body
        document = json.loads(body)
        inner, steps = document, path.split(".")
        for step in steps[:-1]:
            inner = inner[step]
        inner[steps[-1]] = value
        return status, json.dumps(document).encode()

    return turn


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (altered("header.success", False), "does not report success"),
        (altered("header.success", "true"), "does not report success"),
        (altered("header", None), "does not report success"),
        (lambda n, s, b: (200, b"<html>Maintenance</html>"), "not JSON"),
        (lambda n, s, b: (200, b[: len(b) // 2]), "not JSON"),
        (lambda n, s, b: (200, b""), "not JSON"),
        (lambda n, s, b: (200, b"[]"), "does not report success"),
        (lambda n, s, b: (500, b), "HTTP 500"),
        (lambda n, s, b: (429, b), "HTTP 429"),
    ],
    ids=["success-false", "success-text", "no-header", "html", "truncated", "nothing", "list", "500", "429"],
)  # fmt: skip
def test_fetch_fails_transiently_and_delivers_nothing_when_the_api_is_in_trouble(turn, message, api, sampan):
    api.records, api.turn = records(2), turn
    with pytest.raises(TransientFailure, match=message):
        fetch.run(FEED, DAY)
    assert len(api.asked) >= 2
    assert drop(sampan) == []


@pytest.mark.parametrize(
    ("turn", "rule"),
    [
        (lambda n, s, b: (404, b), "api.refused"),
        (lambda n, s, b: (401, b), "api.refused"),
        (lambda n, s, b: (302, b), "api.refused"),
        (altered("result.records", {"a": 1}), "api.shape"),
        (altered("result.records", ["text"]), "api.shape"),
        (altered("result.records", None), "api.shape"),
        (altered("result.datasize", "many"), "api.shape"),
        (altered("result.datasize", [1]), "api.shape"),
    ],
    ids=["404", "401", "302", "records-object", "records-texts", "records-null", "total-text", "total-list"],
)
def test_fetch_fails_permanently_and_asks_once_when_the_api_is_another(turn, rule, api, sampan):
    api.records, api.turn = records(2), turn
    with pytest.raises(PermanentFailure) as failure:
        fetch.run(FEED, DAY)
    assert failure.value.problem.rule == rule
    assert failure.value.problem.file.startswith(api.url)
    assert len(api.asked) == 1
    assert drop(sampan) == []


def test_fetch_goes_on_when_the_api_recovers(api, sampan):
    api.records = records(2)
    api.turn = lambda number, status, body: (500, b"") if number < 3 else (status, body)
    assert fetch.run(FEED, DAY) == {"seen": 1}


def test_fetch_reads_the_answer_when_it_begins_with_a_byte_order_mark(api, sampan):
    api.records = records(2)
    api.turn = lambda number, status, body: (status, b"\xef\xbb\xbf" + body)
    assert fetch.run(FEED, DAY) == {"seen": 1}


def many(count: int) -> list[str]:
    return [json.dumps({"end_of_day": str(number)}) for number in range(count)]


def test_fetch_fails_when_a_page_repeats(api, sampan):
    api.records = many(3 * SIZE)
    first = api.answer({})
    api.turn = lambda number, status, body: (status, first if number % 3 == 2 else body)
    with pytest.raises(TransientFailure, match="repeats"):
        fetch.run(FEED, DAY)
    assert drop(sampan) == []


def test_fetch_fails_when_the_total_changes_between_pages(api, sampan):
    api.records = many(3 * SIZE)
    path = REQUEST.total
    api.turn = lambda n, s, b: altered(path, 3 * SIZE + n)(n, s, b)
    with pytest.raises(TransientFailure, match="total changed"):
        fetch.run(FEED, DAY)


@pytest.mark.parametrize("promised", [SIZE + 5, 5 * SIZE])
def test_fetch_fails_when_fewer_records_come_than_were_promised(promised, api, sampan):
    api.records = many(SIZE)
    api.turn = altered(REQUEST.total, promised)
    with pytest.raises(TransientFailure, match="but the API's total is"):
        fetch.run(FEED, DAY)
    assert drop(sampan) == []


def test_fetch_reads_every_page_when_the_total_counts_the_page_only(api, sampan):
    api.records = many(2 * SIZE + 3)

    def turn(number: int, status: int, body: bytes) -> tuple[int, bytes]:
        page = len(json.loads(body)["result"]["records"])
        return altered(REQUEST.total, page)(number, status, body)

    api.turn = turn
    fetch.run(FEED, DAY)
    assert len(drop(sampan)[0].splitlines()) == 2 * SIZE + 3


def capped(limit: int, total: str):
    """Answers of an API that gives at most `limit` records a page. Its `total` is of the page or the whole, or missing."""

    def turn(number: int, status: int, body: bytes) -> tuple[int, bytes]:
        document = json.loads(body)
        result = document["result"]
        result["records"] = result["records"][:limit]
        if total == "page":
            result["datasize"] = len(result["records"])
        if total == "none":
            del result["datasize"]
        return status, json.dumps(document).encode()

    return turn


@pytest.mark.parametrize("count", [1, 99, 100, 101, 274, 300])
@pytest.mark.parametrize("total", ["page", "whole", "none"])
def test_fetch_reads_every_record_when_pages_are_smaller_than_was_asked_for(total, count, api, sampan):
    """Kind of fault: a limit of the API's own ends the paging, and what is behind it is missing without a word."""
    api.records = many(count)
    api.turn = capped(100, total)
    fetch.run(FEED, DAY)
    assert [json.loads(line) for line in drop(sampan)[0].splitlines()] == [json.loads(record) for record in many(count)]
    assert len(api.asked) <= count // 100 + 2


@pytest.mark.parametrize("total", ["page", "none"])
def test_fetch_fails_and_ends_when_an_api_ignores_the_page(total, api, sampan):
    api.records = many(50)
    first = api.answer({})
    api.turn = lambda number, status, body: capped(100, total)(number, status, first)
    with pytest.raises(TransientFailure, match="repeats an earlier one"):
        fetch.run(FEED, DAY)
    assert drop(sampan) == []


def test_fetch_takes_no_list_for_the_end_when_records_came_before(api, sampan):
    api.records = many(SIZE + 5)
    api.turn = lambda n, s, b: capped(SIZE, "none")(n, s, b) if n < 3 else altered("result.records", None)(n, s, b)
    fetch.run(FEED, DAY)
    assert len(drop(sampan)[0].splitlines()) == SIZE + 5


def test_fetch_stops_when_an_api_has_no_end(api, sampan, monkeypatch):
    monkeypatch.setattr(api_client, "MAX_PAGES", 3)
    api.records = many(5 * SIZE)
    with pytest.raises(PermanentFailure, match="more than 3 pages"):
        fetch.run(FEED, DAY)


@pytest.mark.parametrize("status", [200, 500, 503])
@pytest.mark.parametrize(
    "said",
    [
        b"\0\0busy", gzip.compress(b"{}", mtime=0), b'{"header": {"success": false, "err_msg": "busy \\ud83d \\u0000"}}',
        b"\x1b]0;title\x07\x1b[31mdown", "\u202edown".encode(), b"\xff\xfe",
    ],
    ids=["nul", "gzip", "half-emoji", "terminal", "right-to-left", "no-utf-8"],
)  # fmt: skip
def test_fetch_keeps_what_an_api_said_though_no_text_can_hold_it(said, status, api, sampan):
    """Kind of fault: an answer cannot be stored or is obeyed by a terminal, and why a feed failed is lost."""
    api.turn = lambda *_: (status, said)
    with pytest.raises(TransientFailure):
        fetch.run(FEED, DAY)
    ((rule, message),) = sampan.rows("select problem ->> 'rule', problem ->> 'message' from ops.feed_poll")
    assert rule == "api.away"
    assert message.isprintable()
    assert f"HTTP {status}" in message or status == 200


def test_fetch_leaves_an_api_alone_until_it_may_be_asked_again(sampan, monkeypatch):
    """Kind of fault: retries of a task ask an API that asked not to be asked."""
    asked = []

    class Busy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(429)
            self.send_header("Retry-After", "86400")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv(REQUEST.base_variable, f"http://127.0.0.1:{server.server_port}/public")
        settings.cache_clear()
        with pytest.raises(TransientFailure, match="asks to wait 86,400 seconds"):
            fetch.run(FEED, DAY)
        with pytest.raises(TransientFailure, match=r"asked not to be asked again for 3,[56]"):
            fetch.run(FEED, DAY)
        assert len(asked) == 1
        # An hour later, the bound of what an API may ask for.
        sampan.rows("update ops.feed_poll set wait_until = wait_until - interval '1 hour' returning feed")
        with pytest.raises(TransientFailure, match="HTTP 429"):
            fetch.run(FEED, DAY)
        assert len(asked) == 2
        server.shutdown()
    assert sampan.rows("select problem ->> 'rule' from ops.feed_poll") == [("api.away",)]


def test_fetch_fails_transiently_when_the_api_is_unreachable(api, sampan, monkeypatch):
    monkeypatch.setenv(REQUEST.base_variable, "http://127.0.0.1:9")
    settings.cache_clear()
    with pytest.raises(TransientFailure, match="ConnectError"):
        fetch.run(FEED, DAY)


def test_ingest_keeps_every_rate_as_it_came_when_the_answer_is_the_real_one(sampan, partner, monkeypatch, tmp_path):
    if not CAPTURED.exists():
        pytest.skip(f"the captured response {CAPTURED.name} is not here")
    answer = json.loads(CAPTURED.read_bytes())

    class Handler(http.server.BaseHTTPRequestHandler):
        """The answer as it was captured, and an empty page after it."""

        def do_GET(self) -> None:
            offset = dict(parse_qsl(urlsplit(self.path).query))[REQUEST.pagination["offset"]]
            body = CAPTURED.read_bytes()
            if offset != "0":
                body = json.dumps(answer | {"result": {"datasize": 0, "records": []}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(REQUEST.base_variable, f"http://127.0.0.1:{server.server_port}/public")
        settings.cache_clear()
        fetch.run(FEED, date(2026, 3, 31))
        server.shutdown()
    batch = partner.ingest(FEED)
    published = [
        {c.name: None if record[c.source_name] is None else str(record[c.source_name]) for c in CONTRACT.columns}
        for record in answer["result"]["records"]
    ]
    assert len(published) == answer["result"]["datasize"] == 4
    assert (batch["state"], batch["rows_published"]) == ("published", 4), batch["problem"]
    assert partner.raw(FEED) == stored(CONTRACT, published)
    assert sampan.one("select usd::text from raw.hkma_exchange_rates where end_of_day = '2026-02-28'") == (
        "7.8245000000000005"
    )
