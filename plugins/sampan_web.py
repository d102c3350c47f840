"""Airflow plugin: security headers on every answer of the web server, and nothing about it for who has not logged in."""

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

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
            await send(message)

        # Routes end before a line break at the end, too.
        path = re.sub(r"[/\s]+$", "", scope["path"])
        is_hidden = DESCRIPTIONS.fullmatch(path) or (path == VERSION and not await _is_logged_in(scope))
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


class WebPlugin(AirflowPlugin):  # type: ignore[misc]
    """Registers the middleware, since Airflow's own settings have no headers, and links to the desks."""

    name = "sampan_web"
    fastapi_root_middlewares = [{"name": "Guard", "middleware": Guard}]  # noqa: RUF012
    # Links in the menu: what is held, found or asked for is decided at the desks, by logins with names of their own.
    external_views = [  # noqa: RUF012
        {"name": name, "href": f"{os.environ['SAMPAN_DESK_URL']}/en/{path}", "destination": "nav", "category": "browse"}
        for name, path in DESK_PAGES.items()
        if os.environ.get("SAMPAN_DESK_URL")
    ]
