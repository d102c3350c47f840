"""Airflow plugin: security headers on every answer of the web server, nothing about it for who has not logged in, the status
page and that of the gates in its menu, and links to the desks."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin

HEADERS = {
    # The pages load their own files only. They set styles from scripts, and the editor of JSON starts workers.
    "content-security-policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:;"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; object-src 'none';"
    " base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}
DESCRIPTIONS = re.compile(r"(/auth|/execution)?/(openapi\.json|docs|redoc|changelog)(/.*)?")
VERSION = "/api/v2/version"
# Airflow shows these pages in a frame of its own page.
STATUS = "/sampan/status"
GATES = f"{STATUS}/gates.html"
FRAMED = HEADERS | {
    "content-security-policy": HEADERS["content-security-policy"].replace("ancestors 'none'", "ancestors 'self'"),
    "x-frame-options": "SAMEORIGIN",
}
DESK_PAGES = {"Desk: held deliveries": "held", "Desk: findings": "findings", "Desk: requests": "requests"}

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Guard:
    """ASGI middleware around all of Airflow's web applications."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or have Airflow answer it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        # As routes read it: below the path of Airflow's `base_url`, and with an end before a line break at the end, too.
        path = re.sub(r"[/\s]+$", "", scope["path"].removeprefix(scope.get("root_path", "")))
        needs_login = path == VERSION or path.startswith(STATUS)
        is_hidden = DESCRIPTIONS.fullmatch(path) or (needs_login and not await _is_logged_in(scope))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                wanted = FRAMED if path in (STATUS, GATES) and not is_hidden else HEADERS
                headers = [(name.encode(), value.encode()) for name, value in wanted.items()]
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
            await send(message)

        await (_not_found if is_hidden else self.app)(scope, receive, send_with_headers)
        return None


async def _not_found(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'{"detail": "Not Found"}'})


async def _is_logged_in(scope: Message) -> bool:
    """Whether the request brings a token that Airflow accepts, in its header or its cookie."""
    from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
    from airflow.api_fastapi.core_api.security import resolve_user_from_token
    from starlette.exceptions import HTTPException
    from starlette.requests import Request

    request = Request(scope)
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    try:
        await resolve_user_from_token(bearer or request.cookies.get(COOKIE_NAME_JWT_TOKEN))
    except HTTPException:
        return False
    return True


async def status_page(scope: Message, receive: Receive, send: Send) -> None:
    """The pages that the DAG `watch` wrote last: what is late, held or failed, rejected rows, releases; and every check."""
    from sampan.monitoring.page import default_path
    from starlette.responses import FileResponse, PlainTextResponse

    written = default_path()
    if scope["path"].rstrip("/").endswith(GATES):
        written = written.with_name(GATES.rpartition("/")[2])
    missing = "There is no status page yet: the DAG `watch` writes it every ten minutes."
    answer = FileResponse(written, media_type="text/html") if written.is_file() else PlainTextResponse(missing, 404)
    await answer(scope, receive, send)


class WebPlugin(AirflowPlugin):  # type: ignore[misc]
    """Registers the middleware, since Airflow's own settings have no headers, and entries of the menu."""

    name = "sampan_web"
    fastapi_root_middlewares = [{"name": "Guard", "middleware": Guard}]  # noqa: RUF012
    fastapi_apps = [{"name": "Status page", "app": status_page, "url_prefix": STATUS}]  # noqa: RUF012
    # What is broken now is shown inside of Airflow's page. What is held, found or asked for is decided at the desks, by
    # logins with names of their own.
    external_views = [  # noqa: RUF012
        {
            "name": "What is broken",
            "href": f"{STATUS}/",
            "url_route": "broken",
            "destination": "nav",
            "category": "browse",
        },
        {
            "name": "Checks at the gates",
            "href": GATES,
            "url_route": "gates",
            "destination": "nav",
            "category": "browse",
        },
        *(
            {
                "name": name,
                "href": f"{os.environ['SAMPAN_DESK_URL']}/en/{path}",
                "destination": "nav",
                "category": "browse",
            }
            for name, path in DESK_PAGES.items()
            if os.environ.get("SAMPAN_DESK_URL")
        ),
    ]
