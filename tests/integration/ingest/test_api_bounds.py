"""APIs that answer without end, slowly, packed to explode, or from elsewhere (availability, requests to inner addresses).

Each answer is that of a hostile server; what is asked is a contract's own request.
"""

from __future__ import annotations

import gzip
import http.client
import resource
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import zstandard
from sampan.contracts.model import Bounds
from sampan.contracts.registry import get_contract
from sampan.errors import PermanentFailure, TransientFailure
from sampan.ingest import api
from tenacity import wait_none

from tests.factory import DAY

FILE, RECORDS = "hkhs_codes", "csd_insured_exports"
MIB = 1 << 20
Turn = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Hostile:
    """A server that lets `turn` answer."""

    turn: Turn
    url: str = ""
    paths: list[str] = field(default_factory=list)


@pytest.fixture
def servers() -> Iterator[Callable[[Turn], Hostile]]:
    running = []

    def start(turn: Turn) -> Hostile:
        hostile = Hostile(turn)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hostile.paths.append(self.path)
                with suppress(OSError):
                    hostile.turn(self)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        hostile.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        running.append(server)
        return hostile

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "wait_exponential", lambda **_: wait_none())


def polled(feed: str, hostile: Hostile, monkeypatch: pytest.MonkeyPatch, bounds: Bounds | None = None) -> bytes:
    """What a feed's API returns, its base replaced by the server's."""
    contract = get_contract(feed)
    monkeypatch.setattr(api, "settings", lambda: Environment(hostile.url))
    source = replace(contract.source, bounds=bounds or Bounds(5 * MIB, 256 * MIB, 20))
    return api.response_body(replace(contract, source=source), DAY)


@dataclass
class Environment:
    """Settings in which every base of an API is the server's."""

    url: str

    def get(self, *_: str) -> str:
        return self.url


def send(status: int, body: bytes, **headers: str) -> Turn:
    def turn(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return turn


def in_chunks(handler: BaseHTTPRequestHandler, pieces: Iterator[bytes], **headers: str) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for piece in pieces:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.flush()
    handler.wfile.write(b"0\r\n\r\n")


def grown() -> int:
    """Peak memory of this process and of those that it made, in MiB."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024


# --- form ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "charset", ["rot13", "base64", "idna", "undefined", "punycode", "unicode_escape", "none-such", "\xff"]
)
@pytest.mark.parametrize("feed", [FILE, RECORDS])
def test_a_message_is_read_in_spite_of_the_charset_it_claims(feed, charset, servers, monkeypatch):
    """Kind of fault: an answer raises an error that was not foreseen, and the feeds behind it have no turn."""
    hostile = servers(send(503, b"\xffbusy \\ud83d\0", Content_Type=f"text/html; charset={charset}"))
    with pytest.raises(TransientFailure, match=r"HTTP 503: .*busy"):
        polled(feed, hostile, monkeypatch)


LEADS = ["http://[::1", "http://\xff\xfe/", "//", "http://" + "a" * 300 + "/", "http://127.0.0.1:99999/", "data:,x"]


@pytest.mark.parametrize("target", LEADS)
def test_a_redirect_to_no_address_is_a_failure_of_this_feed(target, servers, monkeypatch):
    hostile = servers(send(302, b"", Location=target))
    with pytest.raises((PermanentFailure, TransientFailure)):
        polled(FILE, hostile, monkeypatch)


ODD = [
    b"null", b"[]", b"{}", b'"text"', b"17", b"[null]", b'{"header": 1}', b'{"header": {"status": []}, "dataSet": 1}',
    b'{"header": {"status": {"name": "Success"}}, "dataSet": {"a": []}}', b"\xff\xfe[\0]\0", b'{"a": "\\ud83d"}',
    b'{"header": {"status": {"message": [{"a": "\\u0000"}, null, 1e999]}}}', b"[" * 100_000, b"\x1f\x8b\0",
]  # fmt: skip


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
def test_an_answer_of_any_form_is_a_failure_that_was_foreseen(body, status, servers, monkeypatch):
    hostile = servers(send(status, body))
    with pytest.raises((PermanentFailure, TransientFailure)) as failure:
        polled(RECORDS, hostile, monkeypatch)
    assert "\0" not in str(failure.value)


def test_an_answer_is_refused_when_a_key_is_in_an_object_twice(servers, monkeypatch):
    """Kind of fault: of two values one is taken, and nothing said. In a file such a row is quarantined."""
    records = b'[{"freq": "M", "figure": "1", "figure": "2", "A123456(3)": 0}]'
    body = b'{"header": {"status": {"name": "Success"}}, "dataSet": ' + records + b"}"
    with pytest.raises(PermanentFailure, match="key 'figure' twice") as failure:
        polled(RECORDS, servers(send(200, body)), monkeypatch)
    assert failure.value.problem.rule == "api.shape"


@pytest.mark.parametrize("shown", [api.SHOWN_OF_RESPONSE, api.SHOWN_OF_MESSAGE])
def test_no_number_of_a_person_is_left_of_a_message_that_is_cut_within_it(shown, servers, monkeypatch):
    """Kind of fault: a text is cut before it is searched, and letter and digits of a number follow without their end."""
    for left in range(6, 11):
        said = "x " * (shown // 2)
        body = f"{said[: shown - left]}A123456(3), and more".encode()
        if shown == api.SHOWN_OF_MESSAGE:
            body = b'{"header": {"status": {"message": "%s"}}}' % body
        with pytest.raises(PermanentFailure, match="x x") as failure:
            polled(RECORDS, servers(send(403, body)), monkeypatch)
        assert "A12345" not in str(failure.value)


def test_a_key_that_is_there_twice_is_shown_in_short(servers, monkeypatch):
    """Kind of fault: what an API says is stored and logged at any length."""
    key = b"k" * MIB
    body = b'{"header": {"status": {"name": "Success"}}, "%s": 1, "%s": 2}' % (key, key)
    with pytest.raises(PermanentFailure, match="twice") as failure:
        polled(RECORDS, servers(send(200, body)), monkeypatch)
    assert len(str(failure.value)) < 1000


# --- time -------------------------------------------------------------------------------------------------------------


def drip_of_body(handler: BaseHTTPRequestHandler) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(1000):
            time.sleep(0.1)
            yield b"x"

    in_chunks(handler, pieces())


def drip_of_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    for _ in range(1000):
        time.sleep(0.1)
        handler.wfile.write(b"x")


@pytest.mark.parametrize("drip", [drip_of_body, drip_of_headers])
@pytest.mark.parametrize("feed", [FILE, RECORDS])
def test_a_drip_ends_at_the_contracts_deadline(feed, drip, servers, monkeypatch):
    started = time.monotonic()
    with pytest.raises(TransientFailure, match="maxSeconds, 2"):
        polled(feed, servers(drip), monkeypatch, Bounds(5 * MIB, 256 * MIB, 2))
    assert time.monotonic() - started < 8


# --- size -------------------------------------------------------------------------------------------------------------


def endless(handler: BaseHTTPRequestHandler) -> None:
    in_chunks(handler, (b"x" * MIB for _ in range(600)))


def empty_members(handler: BaseHTTPRequestHandler) -> None:
    in_chunks(handler, (gzip.compress(b"") * 50_000 for _ in range(600)), Content_Encoding="gzip")


@cache
def bomb() -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(b"x" * MIB) for _ in range(700)), packer.flush()])


ANSWERS = {
    "gzip": lambda: send(200, bomb(), Content_Encoding="gzip"),
    "plain": lambda: endless,
    "packed": lambda: empty_members,
    "error": lambda: send(500, bomb(), Content_Encoding="gzip"),
}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("feed", [FILE, RECORDS])
def test_an_answer_is_refused_when_it_is_larger_than_the_contract_allows(feed, kind, servers, monkeypatch):
    hostile = servers(ANSWERS[kind]())
    before = grown()
    with pytest.raises(PermanentFailure) as failure:
        polled(feed, hostile, monkeypatch)
    assert failure.value.problem.rule == "api.too_large"
    assert len(hostile.paths) == 1
    assert grown() - before < 64


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("zstd", lambda: zstandard.compress(b"x" * 700 * MIB)),
        ("gzip, gzip", lambda: gzip.compress(gzip.compress(b"x" * 100 * MIB, 1))),
        ("deflate", lambda: zlib.compress(b"x" * 100 * MIB, 1)),
    ],
    ids=["zstd", "twice", "deflate"],
)
def test_an_answer_is_refused_when_it_is_packed_as_was_not_asked_for(encoding, body, servers, monkeypatch):
    hostile = servers(send(200, body(), Content_Encoding=encoding))
    before = grown()
    with pytest.raises(PermanentFailure, match="only gzip was accepted"):
        polled(FILE, hostile, monkeypatch)
    assert grown() - before < 64


def test_an_answer_costs_its_bound_when_its_json_takes_much_more_memory_than_its_bytes(servers, monkeypatch):
    body = b'{"dataSet": [' + b"[]," * 6_000_000 + b"0]}"
    before = grown()
    with pytest.raises(PermanentFailure) as failure:
        polled(RECORDS, servers(send(200, body)), monkeypatch, Bounds(50 * MIB, 256 * MIB, 60))
    assert failure.value.problem.rule == "api.too_large"
    assert grown() - before < 320


def test_an_answer_is_asked_for_again_when_its_gzip_is_cut_off(servers, monkeypatch):
    body = gzip.compress(b"code,unit\n" * 1000)
    hostile = servers(send(200, body[: len(body) // 2], Content_Encoding="gzip"))
    with pytest.raises(TransientFailure, match="cut off or corrupt"):
        polled(FILE, hostile, monkeypatch)
    assert len(hostile.paths) == 4


def test_an_answer_is_unpacked_when_it_is_gzip(servers, monkeypatch):
    body = b"code,unit\n" * 100_000
    assert polled(FILE, servers(send(200, gzip.compress(body), Content_Encoding="gzip")), monkeypatch) == body


def test_all_answers_together_count_when_an_api_has_pages(servers, monkeypatch):
    body = b'{"dataSet": [], "header": {"status": {"name": "Success"}}}' + b" " * 2 * MIB
    hostile = servers(send(200, body))
    with pytest.raises(PermanentFailure) as failure:
        polled("csd_trade_statistics", hostile, monkeypatch)
    assert failure.value.problem.rule == "api.too_large"
    assert len(hostile.paths) == 3


# --- redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["http://localhost:{port}/", "https://127.0.0.1:{port}/", "{other}/", "ftp://x/", "file:///etc/passwd", "http://["],
)
def test_no_other_address_is_asked_when_the_api_redirects_there(address, servers, monkeypatch):
    inner = servers(send(200, b"code,unit\nsecret,of an inner address\n"))
    hostile = servers(send(200, b""))
    place = address.format(port=hostile.url.rsplit(":", 1)[1], other=inner.url)
    hostile.turn = send(302, b"", Location=place)
    with pytest.raises((PermanentFailure, TransientFailure)) as failure:
        polled(FILE, hostile, monkeypatch)
    if isinstance(failure.value, PermanentFailure):
        assert failure.value.problem.rule == "api.redirected"
    assert not inner.paths
    assert len(set(hostile.paths)) == 1


def test_redirects_without_end_are_refused(servers, monkeypatch):
    hostile = servers(send(302, b"", Location="/again"))
    with pytest.raises(PermanentFailure) as failure:
        polled(FILE, hostile, monkeypatch)
    assert failure.value.problem.rule == "api.redirected"
    assert len(hostile.paths) < 10


def test_a_redirect_is_followed_when_it_stays_at_the_address(servers, monkeypatch):
    hostile = servers(send(200, b""))

    def turn(handler: BaseHTTPRequestHandler) -> None:
        moved = handler.path.startswith("/moved")
        send(200 if moved else http.client.FOUND, b"code\n", **({} if moved else {"Location": "/moved"}))(handler)

    hostile.turn = turn
    assert polled(FILE, hostile, monkeypatch) == b"code\n"
