"""A login for each person who reads: made, listed and dropped by the administrator."""

from __future__ import annotations

import re
import secrets

from psycopg import sql

from sampan.database import Connection, connect, scalar, scram_verifier
from sampan.errors import Code, PermanentFailure, Problem
from sampan.settings import ROLES, settings
from sampan.warehouse.roles import PERSON_SESSIONS, READER_ROLES, configure_login, reader_logins

NAME = re.compile(r"[a-z][a-z0-9_]{2,62}")
RESERVED = re.compile(r"(pg|sampan|bank|steward)_.*|(bi|policy|public)_reader")
# Where a password of the operator's own choice is taken from; never from the command line, which everybody can read.
PASSWORD_VARIABLE = "SAMPAN_LOGIN_PASSWORD"  # noqa: S105


def add(login: str, role: str) -> str | None:
    """Make a login that reads as `role`: bi_reader, policy_reader, public_reader, sampan_operator, steward_<partner>
    or bank_<id>.

    Returns its new password, or None when it was given in SAMPAN_LOGIN_PASSWORD. Raises PermanentFailure when the name is
    taken or not allowed, or there is no such role to read with.
    """
    if not NAME.fullmatch(login) or RESERVED.fullmatch(login):
        message = (
            f"invalid login {login!r}: expected 3 to 63 of a-z, 0-9 and _, and not the name of a role of the platform"
        )
        raise PermanentFailure(Problem(Code.LOGIN_NAME, message))
    given = settings().values.get(PASSWORD_VARIABLE)
    password = given or secrets.token_urlsafe(24)
    with connect("admin") as admin, admin.transaction():
        known = _reader_roles(admin)
        if role not in known:
            raise PermanentFailure(
                Problem(Code.LOGIN_ROLE, f"no role {role!r} to read with; roles: {', '.join(known)}")
            )
        if admin.execute("select from pg_roles where rolname = %s", [login]).fetchone() is not None:
            raise PermanentFailure(Problem(Code.LOGIN_NAME, f"{login} exists"))
        name, verifier = sql.Identifier(login), sql.Literal(scram_verifier(admin, login, password))
        admin.execute(sql.SQL("create role {} login password {}").format(name, verifier))
        admin.execute(sql.SQL("grant {} to {}").format(sql.Identifier(role), name))
        configure_login(admin, login, PERSON_SESSIONS)
    return None if given else password


def drop(login: str) -> int:
    """Drop a login and end its sessions. Returns how many it had. Raises PermanentFailure when no person has that login."""
    with connect("admin") as admin:
        if RESERVED.fullmatch(login) or login not in reader_logins(admin, also_disabled=True):
            raise PermanentFailure(Problem(Code.LOGIN_NAME, f"no login {login!r} that reads; see `sampan roles list`"))
        name = sql.Identifier(login)
        # First on its own: no session may begin between the end of the others and the end of the role.
        admin.execute(sql.SQL("alter role {} nologin").format(name))
        with admin.transaction():
            # To end its sessions and to drop what it has set for others, the administrator has to be a member.
            admin.execute(sql.SQL("grant {} to current_user").format(name))
            query = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = %s"
            ended = scalar(admin, query, [login])
            admin.execute(sql.SQL("drop owned by {}").format(name))
            admin.execute(sql.SQL("drop role {}").format(name))
    return int(ended)


def list_logins() -> list[tuple[str, str, int, int]]:
    """Login, the roles it reads with, how many sessions it may have, and how many it has now."""
    with connect("admin") as admin:
        return [
            (login, *row)
            for login in reader_logins(admin)
            for row in admin.execute(
                """
                select
                    (
                        select string_agg(role.rolname, ', ' order by role.rolname)
                        from pg_auth_members as membership
                        join pg_roles as role on role.oid = membership.roleid
                        where membership.member = login.oid
                    ),
                    rolconnlimit,
                    (select count(*) from pg_stat_activity where usesysid = login.oid)
                from pg_roles as login
                where rolname = %s
                """,
                [login],
            )
        ]


def _reader_roles(admin: Connection) -> list[str]:
    rows = admin.execute(
        "select rolname from pg_roles where rolname = %s or rolname ~ %s order by 1", [ROLES["bi"], READER_ROLES]
    )
    return [name for (name,) in rows]
