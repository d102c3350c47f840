"""Carry: a family of marts that could not be built, or may not be shown, keeps its tables of the live release.

Everything else of the build is new. What is carried is marked in `dim_mart_coverage`, may not be quoted, and is told.
"""

from __future__ import annotations

from functools import cache

from psycopg import sql
from psycopg.types.json import Jsonb

from sampan.alerts import raise_alert
from sampan.database import Connection, drop_relations, one, scalar
from sampan.errors import Problem
from sampan.marts import dbt
from sampan.settings import settings

COVERAGE = "dim_mart_coverage"
QUOTABLE = "is_quotable"


@cache
def marts_of(step: str) -> tuple[str, ...]:
    """The marts that a step of the build makes, sorted."""
    folder = dbt.PROJECT.joinpath("models", *step.split("__", 1))
    return tuple(sorted(path.stem for path in folder.glob("*.sql")))


def carried(connection: Connection, build_no: int) -> dict[str, str]:
    """The marts that a build carries, with the step that makes each."""
    return dict(connection.execute("select mart, step from ops.carried where build_no = %s", [build_no]).fetchall())


def carry(connection: Connection, build_no: int, step: str, problem: Problem) -> bool:
    """Give a build the tables of a step as the live release has them. Returns False when there is no release yet.

    Rows keep the `release_no` of the release that they were made for. A mart that the live release lacks is missing, and so
    is one that was made for a release past its retention: it has rows of what is deleted everywhere else.
    """
    live = connection.execute(
        "select release_no from ops.release_activation order by activation_no desc limit 1"
    ).fetchone()
    if live is None:
        return False
    past: list[str] = []
    with connection.transaction():
        drop_relations(connection, "build", marts_of(step))
        for mart in marts_of(step):
            origin, is_kept = _origin(connection, live[0], mart)
            if is_kept:
                _copy(connection, live[0], mart)
            else:
                past.append(mart)
            connection.execute(
                """
                insert into ops.carried (build_no, mart, step, from_release_no, problem) values (%s, %s, %s, %s, %s)
                on conflict (build_no, mart) do nothing
                """,
                [build_no, mart, step, origin, Jsonb(problem.as_dict())],
            )
        connection.execute(
            "update ops.build_step set state = 'carried' where build_no = %s and step = %s", [build_no, step]
        )
        message = (
            f"build {build_no}: the marts of {step} wait, and the release has those of release {live[0]}"
            f" ({', '.join(marts_of(step))}): {problem}. They may not be quoted. When the cause is corrected, run"
            " `sampan refresh --force`"
        )
        if past:
            message += f". Left out, since what they were made for is past its retention: {', '.join(past)}"
        raise_alert(connection, "carried", None, message, f"carried:{step}")
    return True


def _origin(connection: Connection, live: int, mart: str) -> tuple[int, bool]:
    """The release that the live one's rows of a mart were made for, and whether that is within the retention of releases."""
    origin, is_kept = one(
        connection,
        """
        with made as (
            select coalesce(
                (select from_release_no from ops.carried where build_no = %(live)s and mart = %(mart)s), %(live)s
            ) as release_no
        )
        select release_no, released_at >= clock_timestamp() - make_interval(days => %(days)s)
        from made join ops.release using (release_no)
        """,
        {"live": live, "mart": mart, "days": settings().release_days},
    )
    return int(origin), bool(is_kept)


def mark(connection: Connection, build_no: int) -> None:
    """Mark in the build's table of coverage which marts are carried, and from which release."""
    if scalar(connection, "select to_regclass(%s) is not null", [f"build.{COVERAGE}"]):
        # Carried from a release of an earlier version, it lacks the column.
        connection.execute(
            sql.SQL("alter table {} add column if not exists carried_from_release_no bigint").format(
                sql.Identifier("build", COVERAGE)
            )
        )
        connection.execute(
            sql.SQL(
                """
                update {} as coverage set carried_from_release_no = carried.from_release_no
                from ops.carried as carried
                where carried.build_no = %s and carried.mart = coverage.mart
                """
            ).format(sql.Identifier("build", COVERAGE)),
            [build_no],
        )


def _copy(connection: Connection, release_no: int, mart: str) -> None:
    """Copy a mart of a release into the build, with keys, comments and policies; not quotable. Without one, nothing.

    A view becomes a table: it would read marts that are not carried with it.
    """
    found = connection.execute(
        """
        select nspname, relrowsecurity, array_agg(attname::text order by attnum)
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        join pg_attribute as a on a.attrelid = c.oid and attnum > 0 and not attisdropped
        where nspname = any(%s) and relname = %s and relkind in ('r', 'v')
        group by nspname, relrowsecurity
        """,
        [[f"release_{release_no}", f"consented_{release_no}"], mart],
    ).fetchone()
    if found is None:
        return
    schema, is_restricted, columns = found
    source, target = sql.Identifier(schema, mart), sql.Identifier("build", mart)
    connection.execute(sql.SQL("create table {} (like {} including all)").format(target, source))
    values = [sql.SQL("false") if name == QUOTABLE else sql.Identifier(name) for name in columns]
    connection.execute(sql.SQL("insert into {} select {} from {}").format(target, sql.SQL(", ").join(values), source))
    comment = scalar(connection, "select obj_description(%s::regclass)", [source.as_string()])
    connection.execute(sql.SQL("comment on table {} is {}").format(target, sql.Literal(comment)))
    if is_restricted:
        connection.execute("select ops.read_under_consent(%s::regclass)", [target.as_string()])
    else:
        connection.execute(sql.SQL("analyze {}").format(target))
