"""One visit of a page: who asks, in which language, and the database as this person's login sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from sampan import report
from sampan.database import LARGEST_ID
from sampan.desk.config import DeskConfig
from sampan.desk.sessions import Session
from sampan.desk.words import DeskWords
from sampan.reading.shown import hidden
from sampan.text import printable
from sampan.warehouse.roles import OPERATOR, POLICY_READER, READER_ROLES

COOKIE = "sampan_desk"
BI_READER = "bi_reader"
MOST_REASON = 2000
Row = dict[str, Any]


@dataclass
class Visit:
    """What a page works with. `roles` are those of the login, asked with each visit."""

    request: Request
    config: DeskConfig
    words: DeskWords
    session: Session
    connection: psycopg.Connection[Row]
    roles: frozenset[str]
    form: Mapping[str, Any]

    @property
    def desks(self) -> frozenset[str]:
        """The desks of this person: operator, steward, bank, policy."""
        found = set()
        for role in self.roles:
            kind = role.partition("_")[0]
            found |= {kind} if kind in ("steward", "bank") else set()
        found |= {"operator"} if OPERATOR in self.roles else set()
        found |= {"policy"} if self.roles & {POLICY_READER, BI_READER} else set()
        return frozenset(found)

    def rows(self, query: str, *values: Any) -> list[Row]:
        """Rows of a query, as this person."""
        return self.connection.execute(query.encode(), list(values) or None).fetchall()

    def row(self, query: str, *values: Any) -> Row:
        """The one row of a query; the page does not exist without it."""
        found = self.rows(query, *values)
        if not found:
            raise HTTPException(404)
        return found[0]

    def number(self, name: str) -> int:
        """An id in the path; the page does not exist when it is not one."""
        return as_id(str(self.request.path_params[name]))

    def path(self, rest: str = "") -> str:
        """A path of the desks in the language of this visit."""
        return f"/{self.words.folder}/{rest}"

    def reason(self) -> str | None:
        """The reason of a form, which is kept for ever, without HKID numbers; None when it has none."""
        text = hidden(str(self.form.get("reason", ""))[: 2 * MOST_REASON], expects_hkid=True).strip()
        return text if 0 < len(text) <= MOST_REASON else None

    def upload(self) -> tuple[str, bytes]:
        """Name and content of the form's file; empty when it has none, or a text in its place."""
        given = self.form.get("file")
        return given if isinstance(given, tuple) else ("", b"")

    def ask(self, action: str, subject: Mapping[str, Any], reason: str) -> int:
        """Ask the platform to do something: the database says whether this login may. Returns the number of the request."""
        query = "select desk.ask(%s, %s, %s) as request_id"
        return int(self.row(query, action, Jsonb(dict(subject)), reason)["request_id"])

    def page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page for this person."""
        here = self.request.url.path.removeprefix(self.path())
        shared = shared_values(self.config, self.words, here)
        mine = {"session": self.session, "desks": self.desks, "folder": self.words.folder}
        return HTMLResponse(environment().get_template(template).render(shared | mine | values), status)

    def go(self, rest: str) -> Response:
        """On to another page, after a form."""
        return RedirectResponse(self.path(rest), 303)


def as_id(text: str) -> int:
    """A text as an id of the database; the page does not exist when it is not one."""
    # Python refuses to read very long numbers.
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LARGEST_ID):
        raise HTTPException(404)
    return int(text)


@contextmanager
def as_person(
    config: DeskConfig, login: str, password: str
) -> Iterator[tuple[psycopg.Connection[Row], frozenset[str]]]:
    """A connection with a person's own login, and the roles it reads with: none for a login of the platform itself.

    Raises psycopg.OperationalError when the database does not let the login in.
    """
    with psycopg.connect(config.dsn(login, password), autocommit=True, row_factory=dict_row) as connection:
        found = connection.execute(
            """
            select role.rolname from pg_roles as role
            join pg_roles as login on login.rolname = session_user
            where
                not login.rolsuper and not login.rolcreaterole and pg_has_role(session_user, role.oid, 'usage')
                and (role.rolname = %s or role.rolname ~ %s)
            """,
            [BI_READER, READER_ROLES],
        ).fetchall()
        yield connection, frozenset(row["rolname"] for row in found)


@cache
def environment() -> Environment:
    """Templates whose values are escaped, and without characters that a screen obeys."""
    return Environment(
        loader=PackageLoader("sampan.desk"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip


def _shown(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def shared_values(config: DeskConfig, words: DeskWords, here: str) -> dict[str, Any]:
    """What every page shows. `here` is its path without the language."""
    return {
        "t": words.text, "v": words.value, "s": words.shown, "title": words.title, "words": words, "here": here,
        "folder": words.folder, "synthetic": config.synthetic, "session": None, "desks": frozenset(),
        "most_reason": MOST_REASON,
    }  # fmt: skip


@cache
def style() -> str:
    """The style sheet: that of the answer pages, and what forms need."""
    of_answers = Path(report.__file__).with_name("templates") / "style.css"
    own = Path(__file__).with_name("templates") / "desk.css"
    return of_answers.read_text(encoding="utf-8") + own.read_text(encoding="utf-8")
