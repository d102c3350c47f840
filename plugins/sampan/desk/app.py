"""The web application: sign-in, sessions, headers, limits of what is sent, and the pages of each desk.

It keeps nothing and may nothing: each visit opens a connection with the person's own login, which the database lets in, or
does not any more.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sampan.database import REFUSED
from sampan.desk import answers, bank, operator, steward
from sampan.desk.config import DeskConfig
from sampan.desk.sessions import FailedSignIns, Sessions
from sampan.desk.uploads import MOST_BYTES
from sampan.desk.visit import COOKIE, Visit, as_person, environment, shared_values, style
from sampan.desk.words import FOLDERS, DeskWords

log = logging.getLogger(__name__)
# Names that a login may have, so that no other text reaches the database or a log.
LOGIN = re.compile(r"[a-z_][a-z0-9_]{1,62}")
# Of a form without its file.
ROOM_FOR_FIELDS = 100_000
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    # With `no-referrer` browsers send the origin `null` with a form, which is what a stranger's page sends too.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
Page = Callable[[Visit], Response]
# (path, methods, desk that has the page, or None for all who are signed in, page)
PAGES: tuple[tuple[str, tuple[str, ...], str | None, Page], ...] = (
    ("", ("GET",), None, operator.home),
    ("held", ("GET",), "operator", operator.held),
    ("held/{batch}", ("GET", "POST"), "operator", operator.batch),
    ("findings", ("GET", "POST"), "operator", operator.findings),
    ("proposals", ("GET",), "operator", operator.proposals),
    ("proposals/{proposal}", ("GET", "POST"), "operator", operator.proposal),
    ("requests", ("GET",), None, operator.requests),
    ("requests/{request}", ("GET", "POST"), None, operator.request),
    ("feeds", ("GET",), "steward", steward.feeds),
    ("feeds/{feed}", ("GET",), "steward", steward.feed),
    ("feeds/{feed}/how", ("GET",), "steward", steward.how),
    ("feeds/{feed}/rows", ("GET",), "steward", steward.rows),
    ("feeds/{feed}/rows.{ending}", ("GET",), "steward", steward.download),
    ("feeds/{feed}/corrections", ("GET", "POST"), "steward", steward.corrections),
    ("feeds/{feed}/attempt", ("GET", "POST"), "steward", steward.attempt),
    ("feeds/{feed}/send", ("POST",), "steward", steward.send),
    ("consents", ("GET",), "bank", bank.consents),
    ("consents/{consent}", ("GET",), "bank", bank.consent),
    ("features", ("GET",), "bank", bank.features),
    ("answers", ("GET",), "policy", answers.releases),
)


def make(config: DeskConfig) -> Starlette:
    """The application."""
    desk = Desk(config)
    languages = "{folder:str}"
    routes = [
        Route("/", desk.start),
        Route("/health", lambda _: PlainTextResponse("ok")),
        Route("/style.css", lambda _: Response(style(), media_type="text/css")),
        Route(f"/{languages}/sign-in", desk.sign_in, methods=["GET", "POST"]),
        Route(f"/{languages}/sign-out", desk.sign_out, methods=["POST"]),
        # The pages of answers link to each other, so that they keep their own paths.
        Route("/answers/{path:path}", desk.visited("policy", answers.page)),
        *(
            Route(f"/{languages}/{path}", desk.visited(of, page), methods=list(methods))
            for path, methods, of, page in PAGES
        ),
    ]
    middleware = [
        Middleware(Guard, config=config),
        Middleware(TrustedHostMiddleware, allowed_hosts=list(config.hosts), www_redirect=False),
    ]
    handlers: Mapping[Any, Any] = {HTTPException: desk.on_http_error}
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)


class Guard:
    """ASGI middleware: headers of every answer, no form of another site, and no body that is larger than a form may be."""

    def __init__(self, app: ASGIApp, config: DeskConfig) -> None:
        self.app = app
        self.headers = HEADERS | ({"strict-transport-security": "max-age=31536000"} if config.secure else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        left = MOST_BYTES + ROOM_FOR_FIELDS

        async def receive_some() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413)
            return message

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message.get("headers", ())}
                added = [(n.encode(), v.encode()) for n, v in self.headers.items() if n.encode() not in given]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        if scope["method"] not in ("GET", "HEAD") and not _is_own(Request(scope)):
            await PlainTextResponse("a form of another site", 403)(scope, receive, send_with_headers)
            return
        await self.app(scope, receive_some, send_with_headers)


def _is_own(request: Request) -> bool:
    """Whether a form was sent from a page of this site, as the browser says; other programs than browsers say nothing."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        return False
    return site in (None, "same-origin", "none")


class Desk:
    """What the routes share: configuration, sessions, failed sign-ins."""

    def __init__(self, config: DeskConfig) -> None:
        self.config, self.sessions, self.failed = config, Sessions(), FailedSignIns()

    def start(self, request: Request) -> Response:
        """On to the pages in the language that the browser prefers."""
        accepts = request.headers.get("accept-language", "").lower()
        return RedirectResponse("/zh-Hant/" if accepts.startswith("zh") else "/en/")

    # --- signing in and out -------------------------------------------------------------------------------------------

    async def sign_in(self, request: Request) -> Response:
        """The form, and what it sends: a name and a password of PostgreSQL."""
        words = _words(request)
        if request.method == "GET":
            return self._sign_in_page(words)
        async with request.form(max_files=0, max_fields=5) as form:
            login, password = str(form.get("login", "")), str(form.get("password", ""))
        return await run_in_threadpool(self._signed_in, request, words, login, password)

    def _signed_in(self, request: Request, words: DeskWords, login: str, password: str) -> Response:
        address = request.client.host if request.client else ""
        known = LOGIN.fullmatch(login) is not None and 0 < len(password) <= 1000 and "\0" not in password
        counted = login if known else ""
        was_full = self.failed.is_full(address)
        if not self.failed.may_try(counted, address):
            return self._sign_in_page(words, "must_wait", 429)
        try:
            roles = frozenset[str]()
            if known:
                with as_person(self.config, login, password) as (_, roles):
                    pass
        except psycopg.OperationalError as error:
            if not REFUSED.search(str(error)):
                log.warning("the warehouse does not answer: %s", type(error).__name__)
                self.failed.take_back(counted, address)
                return self._sign_in_page(words, "no_warehouse", 503)
        if not roles and was_full:
            # As without a try: no answer says which logins got in from this address before.
            return self._sign_in_page(words, "must_wait", 429)
        if not roles:
            # The same for a wrong password and for a login without a desk: neither says whether the login exists.
            return self._sign_in_page(words, "wrong_sign_in", 401)
        self.failed.forget(counted, address)
        response = RedirectResponse(f"/{words.folder}/", 303)
        response.set_cookie(
            COOKIE, self.sessions.begin(login, password), httponly=True, samesite="strict", secure=self.config.secure
        )
        return response

    def _sign_in_page(self, words: DeskWords, problem: str | None = None, status: int = 200) -> Response:
        values = shared_values(self.config, words, "sign-in")
        return HTMLResponse(environment().get_template("sign_in.html").render(values | {"problem": problem}), status)

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        words, session = _words(request), self.sessions.find(request.cookies.get(COOKIE))
        async with request.form(max_files=0, max_fields=5) as form:
            if session is not None and not session.is_own(form.get("csrf")):
                raise HTTPException(403)
        self.sessions.end(request.cookies.get(COOKIE))
        return self._to_sign_in(words)

    def _to_sign_in(self, words: DeskWords) -> Response:
        response = RedirectResponse(f"/{words.folder}/sign-in", 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=self.config.secure)
        return response

    # --- pages --------------------------------------------------------------------------------------------------------

    def visited(self, of: str | None, page: Page) -> Callable[[Request], Awaitable[Response]]:
        """A route of a page that is there for those who have this desk (None: any)."""

        async def answer(request: Request) -> Response:
            words, cookie = _words(request), request.cookies.get(COOKIE)
            session = self.sessions.find(cookie)
            if session is None:
                return self._to_sign_in(words)
            form: dict[str, Any] = {}
            if request.method == "POST":
                async with request.form(max_files=1, max_fields=20, max_part_size=ROOM_FOR_FIELDS) as sent:
                    if not session.is_own(sent.get("csrf")):
                        raise HTTPException(403)
                    for name, value in sent.items():
                        if isinstance(value, UploadFile):
                            form[name] = value.filename or "", await value.read()
                        else:
                            form[name] = value
            return await run_in_threadpool(visit, request, words, form)

        def visit(request: Request, words: DeskWords, form: dict[str, Any]) -> Response:
            cookie = request.cookies.get(COOKIE)
            session = self.sessions.find(cookie)
            if session is None:
                return self._to_sign_in(words)
            if any("\0" in text for text in _texts(request, form)):
                # No browser sends it, and no text of the database holds it.
                raise HTTPException(404)
            try:
                with as_person(self.config, session.login, session.password) as (connection, roles):
                    visit = Visit(request, self.config, words, session, connection, roles, form)
                    if not visit.desks:
                        self.sessions.end(cookie)
                        return self._to_sign_in(words)
                    if of is not None and of not in visit.desks:
                        raise HTTPException(404)
                    return page(visit)
            except psycopg.errors.InsufficientPrivilege:
                raise HTTPException(403) from None
            except psycopg.errors.ProgramLimitExceeded:
                raise HTTPException(429) from None
            except psycopg.OperationalError as error:
                if REFUSED.search(str(error)):
                    # The login was dropped, lost its rights or has another password.
                    self.sessions.end(cookie)
                    return self._to_sign_in(words)
                log.warning("the warehouse does not answer: %s", type(error).__name__)
                raise HTTPException(503) from None
            except HTTPException:
                raise
            except Exception as error:  # noqa: BLE001 - a server that raised it would log its text
                _log_place(request, error)
                raise HTTPException(500) from None

        return answer

    def on_http_error(self, request: Request, error: HTTPException) -> Response:
        """A page that says what went wrong."""
        folder = request.path_params.get("folder")
        words = DeskWords(folder if folder in FOLDERS else "en")
        status = error.status_code
        key = f"error_{status}" if status in (400, 403, 404, 405, 413, 429, 503) else "error_500"
        values = shared_values(self.config, words, "") | {"message": words.text(key)}
        return HTMLResponse(environment().get_template("message.html").render(values), status)


def _texts(request: Request, form: Mapping[str, Any]) -> list[str]:
    """The texts that a visit brings, but for a file's."""
    values = [*request.path_params.values(), *request.query_params.values(), *form.values()]
    return [value for value in values if isinstance(value, str)]


def _log_place(request: Request, error: Exception) -> None:
    """Log where an unexpected error came from, without its text, which may quote what a page holds."""
    places = traceback.extract_tb(error.__traceback__)
    place = next((f for f in reversed(places) if "sampan" in f.filename), places[-1])
    log.error("%s: %s at %s:%s", request.url.path, type(error).__name__, Path(place.filename).name, place.lineno)


def _words(request: Request) -> DeskWords:
    folder = request.path_params.get("folder", "en")
    if folder not in FOLDERS:
        raise HTTPException(404)
    return DeskWords(folder)
