"""The desks, served from this process over a fresh installation, and people with logins of their own."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sampan.desk.__main__ import serving
from sampan.desk.config import DeskConfig
from sampan.settings import settings

from tests.conftest import ROOT

# Pictures of the pages, for people to look at.
PICTURES = ROOT / ".sampan" / "pictures" / "desks"


@dataclass
class Desks:
    """The served application. `people` are logins that were made, with their passwords."""

    url: str
    people: dict[str, str] = field(default_factory=dict)

    def person(self, *roles: str) -> tuple[str, str]:
        """A new login with these roles, and its password."""
        # Named for the work, since pictures show it.
        login, password = "_".join(("my", *roles[:1], secrets.token_hex(3))), secrets.token_hex(8)
        with psycopg.connect(settings().dsn("admin"), autocommit=True) as admin:
            name = sql.Identifier(login)
            admin.execute(sql.SQL("create role {} login password {}").format(name, sql.Literal(password)))
            database = sql.Identifier(admin.info.dbname)
            for role in map(sql.Identifier, roles):
                admin.execute(sql.SQL("grant {} to {}").format(role, name))
                admin.execute(sql.SQL("grant connect on database {} to {}").format(database, role))
        self.people[login] = password
        return login, password

    def drop(self, login: str) -> None:
        """The login is gone."""
        with psycopg.connect(settings().dsn("admin"), autocommit=True) as admin:
            admin.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(login)))
        self.people.pop(login, None)

    def client(self, *roles: str) -> Client:
        """A program that has signed in as a new person with these roles."""
        found = Client(self.url)
        found.sign_in(*self.person(*roles))
        return found


class Client(httpx.Client):
    """What a browser does, without its protections: each is to hold in the server."""

    def __init__(self, url: str) -> None:
        super().__init__(base_url=url, follow_redirects=True, timeout=30)
        self.login = ""

    def sign_in(self, login: str, password: str) -> httpx.Response:
        self.login = login
        return self.post("/en/sign-in", data={"login": login, "password": password})

    def token(self) -> str:
        """The token of this session's forms."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/en/").text)
        assert found is not None
        return found[1]

    def form(self, path: str, file: tuple[str, bytes] | None = None, **values: str) -> httpx.Response:
        """A form with the session's token."""
        files = {"file": file} if file else None
        return self.post(path, data={"csrf": self.token(), **values}, files=files)


@pytest.fixture
def desks(sampan: Any, tmp_path: Path) -> Iterator[Desks]:
    """The desks of a fresh installation."""
    parts = conninfo_to_dict(sampan.environment["SAMPAN_WAREHOUSE_DSN"])
    place = {key: str(parts[key]) for key in ("host", "port", "dbname")}
    config = DeskConfig(place, synthetic=True, answers=tmp_path / "state" / "reports")
    with served(config) as url:
        found = Desks(url)
        yield found
        for login in list(found.people):
            found.drop(login)


class served:  # noqa: N801
    """Serves the desks on a free port until the block ends."""

    def __init__(self, config: DeskConfig) -> None:
        self.server = uvicorn.Server(serving(config, "127.0.0.1", 0))
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        deadline = time.monotonic() + 20
        while not self.server.started:
            assert time.monotonic() < deadline, "the desks do not start"
            time.sleep(0.02)
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(20)
