"""Superset as the local stack runs it: its command, its settings, the people who use it, and what is loaded into it.

It has an environment of its own (`.venv-bi`, made by infra/bi/setup.sh), a metadata database in the stack's PostgreSQL, and
no login on the warehouse: queries run as the login of the person who asks (ADR 0044).
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from infra.local import people
from infra.local.config import HOME, HOST, StackError, write_private
from infra.local.people import Person

VENV = HOME / ".venv-bi"
# Superset's texts in traditional Chinese have simplified characters, and some say something else than the English ones.
SAID_WRONG = {
    "There is currently no information to display.": "暫時沒有資料可顯示。",
    "No results were returned for this query": "此查詢沒有資料",
    "%s record": "%s 列",
    "entries per page": "列",
    "View as table": "以表格檢視",
}
SOURCES = HOME / "infra" / "bi"
READS = re.compile("(?P<policy>policy_reader|public_reader)|(?P<analyst>bi_reader)|(?P<bank>bank_b[0-9]{3})")
# Two processes, so that one can be renewed while the other answers.
GUNICORN = (
    "--workers",
    "2",
    "--worker-class",
    "gthread",
    "--threads",
    "8",
    "--timeout",
    "150",
    "--max-requests",
    "1000",
)


@dataclass(frozen=True)
class Superset:
    """One Superset. `database` is the URI of its metadata, `warehouse` has host, port and database of the marts."""

    folder: Path
    port: int
    database: str = field(repr=False)
    warehouse: Mapping[str, Any]
    secret_key: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def address(self) -> str:
        """Where people reach it."""
        return f"http://{HOST}:{self.port}"

    @property
    def people_file(self) -> Path:
        """Who may log in, with which role, and each person's login on the warehouse; mode 600."""
        return self.folder / "people.json"

    @property
    def command(self) -> tuple[str, ...]:
        """Command line of the server."""
        return (str(VENV / "bin" / "gunicorn"), *GUNICORN, "--bind", f"{HOST}:{self.port}", "superset.app:create_app()")

    @property
    def environment(self) -> dict[str, str]:
        """Its own settings; nothing of the platform's other programs."""
        return {
            "SUPERSET_CONFIG_PATH": str(SOURCES / "superset_config.py"),
            "SUPERSET_HOME": str(self.folder),
            "FLASK_APP": "superset.app:create_app()",
            "SAMPAN_SUPERSET_DATABASE": self.database,
            "SAMPAN_SUPERSET_SECRET_KEY": self.secret_key,
            "SAMPAN_SUPERSET_PEOPLE": str(self.people_file),
        }

    def people(self) -> dict[str, dict[str, str]]:
        """Who may log in, by name."""
        found: dict[str, dict[str, str]] = {}
        if self.people_file.exists():
            found = json.loads(self.people_file.read_text(encoding="utf-8"))["people"]
        return found

    def add(
        self, person: str, reads: str, environment: Mapping[str, str], *, replace: bool = False, password: str = ""
    ) -> str:
        """Give a person a login on the warehouse that reads as `reads`, and the role in Superset that fits it.

        Returns the person's password. `environment` is that of the platform's command, as administrator. With `replace` a
        login of that name that is not known here, because the folder was lost, is dropped first. `password` is that of a
        login that is there: it opens Superset, too.

        Raises:
            StackError: there is no role to read with, or the name is taken or not allowed.
        """
        listed, role = self.people(), READS.fullmatch(reads)
        if role is None:
            raise StackError(f"no role {reads!r} to read with: bi_reader, policy_reader, public_reader or bank_<id>")
        known = listed.get(person)
        if known is None or known["reads"] != reads:
            of_login = password or secrets.token_urlsafe(24)
            if not password:
                if known is not None or replace:
                    with suppress(StackError) if replace else nullcontext():
                        _sampan(environment, "roles", "drop-login", person)
                given = {**environment, "SAMPAN_LOGIN_PASSWORD": of_login}
                _sampan(given, "roles", "add-login", person, "--role", reads)
            listed[person] = {
                "role": str(role.lastgroup), "reads": reads, "password": password or secrets.token_urlsafe(12),
                "login": person, "login_password": of_login,
            }  # fmt: skip
        write_private(self.people_file, json.dumps({"warehouse": dict(self.warehouse), "people": listed}, indent=1))
        return listed[person]["password"]

    def add_demo(self, admin: str, environment: Mapping[str, str], known: Mapping[str, Person]) -> None:
        """The demo's people: one who reads aggregates, an analyst, and one of each of the first banks that there are.

        `known` are those who have a login already.
        """
        for name, reads in people.wanted(admin).items():
            if READS.fullmatch(reads):
                password = known[name].password if name in known else ""
                self.add(name, reads, environment, replace=True, password=password)

    def load(self, environment: Mapping[str, str], report: Callable[[str], None] = print) -> None:
        """Bring Superset to what the platform's files describe, unless it was loaded with the same before.

        Raises:
            StackError: it did not load; with its last line, and where the others are.
        """
        from sampan.report import superset

        bundle, loaded = superset.bundle(), self.folder / "loaded"
        parts = [bundle, self.people_file.read_bytes(), self.password.encode(), *_files()]
        digest = sha256(b"".join(sha256(part).digest() for part in parts)).hexdigest()
        if loaded.exists() and loaded.read_text() == digest:
            return
        report("loading datasets, charts and dashboards into Superset: a minute")
        archive = self.folder / "bundle.zip"
        archive.write_bytes(bundle)
        for texts in VENV.glob("lib/python3.*/site-packages/superset/translations/zh_TW/LC_MESSAGES/messages.json"):
            pack = traditional(json.loads(texts.read_text(encoding="utf-8")))
            (self.folder / "zh_TW.json").write_text(json.dumps(pack, ensure_ascii=False), encoding="utf-8")
        done = subprocess.run(
            [str(VENV / "bin" / "python"), str(SOURCES / "load.py"), str(archive)],
            env={**environment, **self.environment, "SAMPAN_SUPERSET_PASSWORD": self.password},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=self.folder,
        )  # fmt: skip
        (self.folder / "load.log").write_text(done.stdout + done.stderr)
        if done.returncode != 0:
            cause = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise StackError(f"Superset could not be loaded: {cause}\nAll that it said: {self.folder / 'load.log'}")
        loaded.write_text(digest)

    def answers(self) -> bool:
        """Whether it answers now."""
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5) as response:  # noqa: S310
                return bool(response.status == 200)
        except OSError:
            return False


def traditional(pack: dict[str, Any]) -> dict[str, Any]:
    """Superset's language pack with traditional characters only, and with what it says wrong said right."""
    from opencc import OpenCC

    # To characters alone: words of Hong Kong and of Taiwan are both at home in the dashboards.
    convert = OpenCC("s2t").convert
    texts = {
        key: [SAID_WRONG.get(key, convert(text)) for text in said] if key and isinstance(said, list) else said
        for key, said in pack["locale_data"]["superset"].items()
    }
    return {**pack, "locale_data": {"superset": texts}}


def installed() -> bool:
    """Whether Superset's environment is there: `make bi` makes it."""
    return (VENV / "bin" / "gunicorn").exists()


def _files() -> list[bytes]:
    return [(SOURCES / name).read_bytes() for name in ("load.py", "superset_config.py", "requirements.lock")]


def _sampan(environment: Mapping[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "sampan.cli", *arguments]
    done = subprocess.run(
        command, cwd=HOME, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise StackError(f"`sampan {' '.join(arguments)}` failed: {(done.stdout + done.stderr)[-1000:].strip()}")
