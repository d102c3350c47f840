"""People of the demo: a login for each desk and for BI tools, with passwords in a file that only its owner reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from infra.local.config import Config, write_private

FILE = "people.json"
BANKS = 2


@dataclass(frozen=True)
class Person:
    """Somebody of the demo: the role that the login reads with, its password, and what the person comes for."""

    login: str
    reads: str
    password: str = field(repr=False)

    @property
    def comes_for(self) -> str:
        """What the person comes for."""
        kind = self.reads.partition("_")[0]
        return {
            "sampan": "operator: decides on what is held, found, proposed or asked",
            "steward": "steward: corrects the partner's rejected rows, tries a file",
            "bank": "bank: consents, and what each opens",
            "policy": "policy team: the answers as pages",
            "bi": "analyst: the marts, in SQL and BI tools",
        }[kind]

    @property
    def writes_sql(self) -> bool:
        """Whether the person comes for more than the desks."""
        return self.reads == "bi_reader"


def known(state: Path) -> dict[str, Person]:
    """The people of the demo whose logins were made, by login."""
    file = state / FILE
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {login: Person(login, **entry) for login, entry in found.items()}


def wanted(admin: str) -> dict[str, str]:
    """The logins of the demo with the role of each; `admin` is the connection string. Banks are those that there are."""
    with psycopg.connect(admin) as connection:
        query = "select rolname from pg_roles where rolname ~ '^bank_b[0-9]{3}$' order by 1 limit %s"
        banks = [name for (name,) in connection.execute(query, [BANKS])]
    return {
        "demo_operator": "sampan_operator",
        "demo_steward": "steward_customs",
        **{f"demo_{bank}": bank for bank in banks},
        "demo_policy": "policy_reader",
        "demo_analyst": "bi_reader",
    }


def add(config: Config, others: Mapping[str, str]) -> dict[str, Person]:
    """Make the logins that are missing, in the installation that the library works on, and keep their passwords.

    `others` has passwords of logins that somebody else made, as Superset: those are taken over.
    """
    from sampan.warehouse import logins

    found = known(config.state)
    there = {login for login, *_ in logins.list_logins()}
    for login, reads in wanted(config["SAMPAN_WAREHOUSE_DSN"]).items():
        if login in there and login in found:
            continue
        password = others.get(login) if login in there else None
        if password is None:
            if login in there:
                # Its password is lost.
                logins.drop(login)
            password = logins.add(login, reads)
        if password is not None:
            found[login] = Person(login, reads, password)
    entries = {person.login: {"reads": person.reads, "password": person.password} for person in found.values()}
    write_private(config.state / FILE, json.dumps(entries, indent=1))
    return found
