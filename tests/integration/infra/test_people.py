"""Logins of the demo's people: made once, healed when one is lost, and taken over from who made one before."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sampan.warehouse import logins

from infra.local import people
from infra.local.config import Config


@pytest.fixture
def config(sampan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    """A stack's configuration over this installation, with names of its own: a server's logins are everybody's."""
    ending = token_hex(4)
    named = {f"op_{ending}": "sampan_operator", f"st_{ending}": "steward_customs", f"an_{ending}": "bi_reader"}
    monkeypatch.setattr(people, "wanted", lambda _: named)
    with psycopg.connect(sampan.environment["SAMPAN_WAREHOUSE_DSN"], autocommit=True) as admin:
        database = sql.Identifier(admin.info.dbname)
        for role in named.values():
            admin.execute(sql.SQL("grant connect on database {} to {}").format(database, sql.Identifier(role)))
    yield Config(tmp_path, {"SAMPAN_WAREHOUSE_DSN": sampan.environment["SAMPAN_WAREHOUSE_DSN"]})
    for login, *_ in logins.list_logins():
        if login in named:
            logins.drop(login)


def may_sign_in(config: Config, person: people.Person) -> bool:
    dsn = make_conninfo(config["SAMPAN_WAREHOUSE_DSN"], user=person.login, password=person.password)
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select pg_has_role(session_user, %s, 'usage')", [person.reads]).fetchone()
    return bool(row and row[0])


def test_each_person_has_a_login_and_only_the_owner_reads_the_passwords(config):
    made = people.add(config, {})
    assert len(made) == 3
    assert all(may_sign_in(config, person) for person in made.values())
    assert stat.S_IMODE((config.state / people.FILE).stat().st_mode) == 0o600
    assert people.known(config.state) == made
    assert people.add(config, {}) == made, "a second demo changes nothing"


def test_a_login_that_is_gone_or_whose_password_is_lost_is_made_again(config):
    made = people.add(config, {})
    gone, *_ = made
    logins.drop(gone)
    again = people.add(config, {})
    assert again[gone].password != made[gone].password
    (config.state / people.FILE).unlink()
    fresh = people.add(config, {})
    assert set(fresh) == set(made)
    assert all(may_sign_in(config, person) for person in fresh.values())


def test_a_login_that_somebody_else_made_is_taken_over(config):
    """Kind of fault: the demo makes a person's login again, and Superset, which knows the one before, is shut out."""
    *_, analyst = people.wanted("")
    password = logins.add(analyst, "bi_reader")
    assert password is not None
    assert people.add(config, {analyst: password})[analyst].password == password
