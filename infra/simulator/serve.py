"""An HTTP server that answers as the open-data APIs do, and fails as they fail when it is told to."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from datetime import date, timedelta
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from sampan.calendar import today

from infra.simulator.orders import Order, saved
from infra.simulator.partners.hkma import ORIGIN, records
from infra.simulator.partners.open_data import Answer, OpenData
from infra.simulator.world import World

PATH = "/market-data-and-statistics/monthly-statistical-bulletin/er-ir/er-eeri-daily"
FAULTS = ("none", "failure", "usage_limit", "repeated_page", "changing_total", "http_500", "not_json", "slow")
MESSAGES = {"failure": "Service is temporarily unavailable", "usage_limit": "Usage limit exceeded, try again later"}


@dataclass
class Behaviour:
    """How the server answers.

    `fault` (one of FAULTS) holds for the first `times` requests, or for all when `times` is 0. `datasize` counts the
    page (as HKMA does) or the whole. `publication` monthly leaves out the days after the month before that of `to`, and
    lets statistics come out as late as they do. What is answered is about the world of `order` as of its last day, or of the
    one that `delivered` (a folder of truth) says was delivered last.
    """

    seed: int
    fault: str = "none"
    times: int = 0
    max_pagesize: int = 1000
    datasize: str = "page"
    publication: str = "daily"
    delay_seconds: float = 3.0
    order: Order = field(default_factory=Order)
    delivered: Path | None = None
    asked: list[str] = field(default_factory=list)

    def newest(self) -> Order:
        """The order that answers are about."""
        return (saved(self.delivered) if self.delivered else None) or self.order


class Server:
    """The server on a loopback port (0 takes a free one). A context manager; `url` is the base of HKMA's API.

    With `world` the answers are about that world, not about one made as `behaviour` says.
    """

    def __init__(self, behaviour: Behaviour, port: int = 0, world: World | None = None) -> None:
        self.behaviour = behaviour
        self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(behaviour, world))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/public"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def forever(self) -> None:
        """Serve until the process ends."""
        self._http.serve_forever()


def answer(behaviour: Behaviour, parameters: dict[str, str], asked: int) -> tuple[int, bytes]:
    """HTTP status and body for one request; `asked` counts the requests before it."""
    faulty = behaviour.fault != "none" and (behaviour.times == 0 or asked < behaviour.times)
    fault = behaviour.fault if faulty else "none"
    if fault == "http_500":
        return 500, b"Internal Server Error"
    if fault == "not_json":
        return 200, b"<html><body>Service temporarily unavailable</body></html>"
    if fault in MESSAGES:
        return 200, _body(False, "9999", MESSAGES[fault], {})
    if fault == "slow":
        time.sleep(behaviour.delay_seconds)
    try:
        first, last = (
            date.fromisoformat(parameters.get(key, bound))
            for key, bound in (("from", str(ORIGIN)), ("to", str(today())))
        )
        size, offset = (int(parameters.get(key, bound)) for key, bound in (("pagesize", "100"), ("offset", "0")))
    except ValueError:
        return 200, _body(False, "0002", "Invalid parameter", {})
    if behaviour.publication == "monthly":
        last = min(last, last.replace(day=1) - timedelta(days=1))
    found = records(behaviour.seed, first, last)
    if parameters.get("sortorder") == "asc":
        found.reverse()
    if "fields" in parameters:
        wanted = parameters["fields"].split(",")
        found = [{key: value for key, value in record.items() if key in wanted} for record in found]
    size = min(size, behaviour.max_pagesize)
    page = found[:size] if fault == "repeated_page" else found[offset : offset + size]
    total = len(page) if behaviour.datasize == "page" else len(found)
    if fault == "changing_total":
        total = len(found) + asked + 1
    return 200, _body(True, "0000", "No error found", {"datasize": total, "records": page})


def _body(success: bool, code: str, message: str, result: dict[str, Any]) -> bytes:
    header = {"success": success, "err_code": code, "err_msg": message}
    return json.dumps({"header": header, "result": result}, separators=(",", ":")).encode()


def other_answer(behaviour: Behaviour, servers: OpenData, request: str, cookie: str, asked: int) -> Answer:
    """Answer to a request that is not for HKMA, faults included."""
    faulty = behaviour.fault != "none" and (behaviour.times == 0 or asked < behaviour.times)
    fault = behaviour.fault if faulty else "none"
    if fault == "http_500":
        return 500, {}, b"Internal Server Error"
    if fault == "not_json":
        return 200, {"Content-Type": "text/html"}, b"<html><body>Service temporarily unavailable</body></html>"
    if fault == "slow":
        time.sleep(behaviour.delay_seconds)
    address = urlsplit(request)
    if fault in MESSAGES:
        status = {"name": "Fail", "code": 9, "message": [MESSAGES[fault]]}
        return (
            200,
            {},
            json.dumps({"header": {"status": status}, "success": False, "message": MESSAGES[fault]}).encode(),
        )
    parameters = {key: values[0] for key, values in parse_qs(address.query).items()}
    cookies = {key: value.value for key, value in SimpleCookie(cookie).items()}
    found = servers.answer(address.path, address.query, parameters, cookies)
    return found or (404, {}, b'{"message":"no such resource"}')


def _handler(behaviour: Behaviour, known: World | None) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()
    servers: dict[Order, OpenData] = {}

    def others(request: str, cookie: str, asked: int) -> Answer:
        # A world is made on the first request, and computed as requests need it. When it goes on, what was made of it stays.
        with lock:
            wanted = behaviour.newest()
            if wanted not in servers:
                before = next((served for order, served in servers.items() if order.is_of_the_world_of(wanted)), None)
                servers.clear()
                if known is not None:
                    world = known
                elif before is not None:
                    world = wanted.world(before.world.population)
                    world.lodged_sums = before.world.lodged_sums
                else:
                    world = wanted.world()
                servers[wanted] = OpenData(world, behaviour.publication)
            return other_answer(behaviour, servers[wanted], request, cookie, asked)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            with lock:
                asked = len(behaviour.asked)
                behaviour.asked.append(self.path)
            headers: dict[str, str] = {}
            if address.path.endswith(PATH):
                parameters = {key: values[0] for key, values in parse_qs(address.query).items()}
                status, body = answer(behaviour, parameters, asked)
            else:
                status, headers, body = others(self.path, self.headers.get("Cookie", ""), asked)
            self.send_response(status)
            headers = {"Content-Type": "application/json;charset=utf-8", "Content-Length": str(len(body))} | headers
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("X-Synthetic-Data", "true")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Requests are counted, not printed."""

    return Handler
