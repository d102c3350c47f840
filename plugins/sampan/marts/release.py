"""Release: check the marts that were built, then show them to the readers, all at once.

dbt builds into the schema `build`. A release renames it to `release_<number>` and swaps the schema `marts`, which holds
views only, by renaming: it locks no relation, so no reader is blocked or killed, and any column may change. All of it
is one transaction, so a release is complete or does not exist, and a process that dies leaves nothing to repair.

Marts under row-level security move to the schema `consented_<number>`, which no reader may use: only the views name them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from sampan import failpoints, feed_hooks
from sampan.database import Connection, connect, drop_relations, one, scalar
from sampan.errors import Code, PermanentFailure, Problem, TransientFailure, require_reason
from sampan.marts import build, carry, dbt, disclosure
from sampan.marts.deprecations import missing_from
from sampan.marts.steps import all_steps
from sampan.quality import expectations, mart_rules
from sampan.settings import settings
from sampan.text import did_you_mean
from sampan.warehouse.roles import POLICY_READER, PUBLIC_READER

KEEP = 5
READER = "bi_reader"
# The views of a release, until they take the place of those in `marts`.
VIEWS = "marts_next"
READABLE = "relkind in ('r', 'p', 'v')"
# Where there is a standby, views that were swapped out stay for as long as a reader's statement and a pause of its
# transaction may take there: dropped earlier, they would end the statement, or let the standby fall behind (ADR 0051).
VIEWS_STAY = timedelta(minutes=30)
# Shorter than deadlock_timeout: the release gives up its lock and retries, a reader never has to.
LOCK_TIMEOUT = "500ms"


def schemas_of(release_no: int) -> tuple[str, str]:
    """The schemas of a release: of what BI reads by name, and of the marts under row-level security."""
    return f"release_{release_no}", f"consented_{release_no}"


def relations(connection: Connection, schema: str) -> list[str]:
    """Names of the tables and views of a schema, sorted."""
    query = f"select relname from pg_class where relnamespace = to_regnamespace(%s) and {READABLE} order by 1"
    return [row[0] for row in connection.execute(query, [schema])]


# --- gate -------------------------------------------------------------------------------------------------------------


def gate() -> dict[str, int]:
    """Check the built marts against expectations/marts; store every result in ops.gate_result.

    Returns build_no, rules checked, rules broken that are not critical, and marts that the release carries from the one
    before; zeros when no build is waiting. A broken critical rule that no person has accepted lets the family of its mart
    wait. Where no family can wait for it (the first release, a mart that others rest on, or nothing new would be left), the
    build is abandoned (its batches wait for the next one) and PermanentFailure raised.
    """
    rules = mart_rules.load()
    with build.lock() as connection:
        if open_build := build.current(connection):
            build.let_wait(connection, open_build.build_no)
        waiting = _built(connection)
        if waiting is None:
            return {"build_no": 0, "rules": 0, "broken": 0, "carried": 0}
        carried = set(carry.carried(connection, waiting.build_no))
        built = set(relations(connection, "build"))
        unchecked, unknown = sorted(built - set(rules)), sorted(set(rules) - built - carried)
        if unchecked or unknown:
            what = [f"no expectations for {name}" for name in unchecked] + [f"{name} was not built" for name in unknown]
            raise PermanentFailure(Problem(Code.RELEASE_EXPECTATIONS, "; ".join(what), str(mart_rules.FOLDER)))
        results = {
            mart: expectations.validate(mart, rules[mart], "build", mart, settings().dsn("builder"))
            for mart in sorted(set(rules) - carried)
        }
        with connection.transaction():
            for mart, found in results.items():
                expectations.store(connection, mart, found, build_no=waiting.build_no)
            _end_acceptances(connection, waiting.build_no)
        failpoints.hit("release.after_gate")
        accepted = set(connection.execute("select mart, rule from ops.finding_accepted").fetchall())
        critical = {
            mart: [item.rule for item in found if item.critical and (mart, item.rule) not in accepted]
            for mart, found in results.items()
        }
        _let_wait(connection, waiting.build_no, {mart: found for mart, found in critical.items() if found})
        carried = set(carry.carried(connection, waiting.build_no))
        carry.mark(connection, waiting.build_no)
        broken = sum(not item.success for mart, found in results.items() if mart not in carried for item in found)
        checked = sum(map(len, results.values()))
        return {"build_no": waiting.build_no, "rules": checked, "broken": broken, "carried": len(carried)}


def _let_wait(connection: Connection, build_no: int, critical: dict[str, list[str]]) -> None:
    """Carry the families of marts with broken critical rules, given by mart. Raises PermanentFailure when none can wait."""
    if not critical:
        return
    broken = ", ".join(f"{mart}: {rule}" for mart, found in sorted(critical.items()) for rule in found)
    accept = (
        "If the figures are right, accept one at the desk, among the Required Actions, or with `sampan release accept <mart>"
        " <rule> --reason <why>`; if not, correct them, then run `sampan refresh --force`"
    )
    problem = Problem(Code.RELEASE_GATE, f"broken critical rules: {broken}. {accept}")
    may_wait = [step.name for step in all_steps() if step.may_wait]
    wanted = {step for step in may_wait if not critical.keys().isdisjoint(carry.marts_of(step))}
    # Marts of several families are made of what may not be shown.
    wanted |= {dbt.SUMMARY}
    left = set(may_wait) - wanted - set(carry.carried(connection, build_no).values())
    of_families = {mart for step in wanted for mart in carry.marts_of(step)}
    if left and critical.keys() <= of_families:
        with connection.transaction():
            if all(carry.carry(connection, build_no, step, problem) for step in sorted(wanted)):
                return
    message = f"build {build_no} is not released; {problem.message}"
    build.abandon(connection, build_no, Problem(Code.RELEASE_GATE, message))
    raise PermanentFailure(Problem(Code.RELEASE_GATE, message))


# --- findings ---------------------------------------------------------------------------------------------------------


def findings() -> list[dict[str, Any]]:
    """Critical rules of marts that their newest gate found broken: mart, rule, description, build_no, decision (or None)."""
    query = """
        with newest as (
            select *, max(build_no) over (partition by suite) as newest_no
            from ops.gate_result
            where build_no is not null
        ),
        decided as (
            select distinct on (mart, rule) mart, rule, format('%s by %s: %s', verdict, decided_by, reason) as decision
            from ops.finding_decision
            where ended_at is null
            order by mart, rule, decision_id desc
        )
        select suite, newest.rule, description, build_no, decision
        from newest
        left join decided on decided.mart = suite and decided.rule = newest.rule
        where build_no = newest_no and severity = 'critical' and not success
        order by suite, newest.rule
    """
    names = ("mart", "rule", "description", "build_no", "decision")
    with connect("builder") as connection:
        return [dict(zip(names, row, strict=True)) for row in connection.execute(query).fetchall()]


def decide(mart: str, rule: str, verdict: str, reason: str, by: str) -> None:
    """Accept or reject a critical finding of a mart, with a reason and the person's name.

    An accepted one stops no release until a later gate finds the rule met. A rejected one lets the family wait, as without
    a decision. Raises PermanentFailure when the newest gate has no such finding.
    """
    require_reason(reason, Code.RELEASE_REASON)
    found = {(item["mart"], item["rule"]): item["build_no"] for item in findings()}
    if (mart, rule) not in found:
        known = did_you_mean(f"{mart} {rule}", (f"{of} {name}" for of, name in found), "there are")
        message = f"no critical finding {rule} of {mart} in its newest gate{known}"
        raise PermanentFailure(Problem(Code.RELEASE_FINDING, message))
    with connect("builder") as connection:
        connection.execute(
            """
            insert into ops.finding_decision (mart, rule, build_no, verdict, reason, decided_by)
            values (%s, %s, %s, %s, %s, %s)
            """,
            [mart, rule, found[mart, rule], verdict, reason, by],
        )


def _end_acceptances(connection: Connection, build_no: int) -> None:
    """End the acceptance of findings whose rule this gate found met."""
    connection.execute(
        """
        update ops.finding_decision as decided set ended_at = clock_timestamp()
        from ops.gate_result as result
        where
            decided.verdict = 'accepted' and decided.ended_at is null
            and result.build_no = %s and result.suite = decided.mart and result.rule = decided.rule and result.success
        """,
        [build_no],
    )


def _built(connection: Connection) -> build.Build | None:
    """The complete build; None when there is no current build. Raises PermanentFailure when it is not complete."""
    found = build.current(connection)
    if found is not None and found.state != "built":
        raise PermanentFailure(Problem(Code.RELEASE_NOT_BUILT, f"build {found.build_no} is not complete"))
    return found


# --- release ----------------------------------------------------------------------------------------------------------


def run() -> dict[str, int]:
    """Release the build that passed its gate, then drop all but the last 5 releases.

    Returns release_no, marts and rows; zeros when no build is waiting. Raises PermanentFailure when the build has not passed
    its gate, TransientFailure when a lock cannot be acquired.
    """
    with build.lock() as connection:
        waiting = _built(connection)
        if waiting is None:
            feed_hooks.clean_up_all()
            _drop_old(connection)
            return {"release_no": 0, "marts": 0, "rows": 0}
        _require_gate(connection, waiting.build_no)
        _retry_locks(lambda: _release(connection, waiting.build_no))
        failpoints.hit("release.after_commit")
        # Not before: what ends while the release is built or the schema is renamed is deleted by neither name.
        feed_hooks.clean_up_all()
        rows = scalar(connection, "select rows from ops.release where release_no = %s", [waiting.build_no])
        _drop_old(connection)
        return {"release_no": waiting.build_no, "marts": len(rows), "rows": sum(rows.values())}


def new_marts(release_no: int) -> dict[str, int]:
    """The marts of a release with their rows, without those that it carries from an earlier one; none for release 0."""
    query = """
        select mart.key, mart.value::bigint
        from ops.release as made cross join jsonb_each_text(made.rows) as mart
        where
            made.release_no = %(number)s
            and mart.key not in (select carried.mart from ops.carried as carried where carried.build_no = %(number)s)
        order by mart.key
    """
    with connect("builder") as connection:
        return dict(connection.execute(query, {"number": release_no}).fetchall())


def refresh(*, force: bool = False, full_refresh: bool = False) -> dict[str, int]:
    """Build, check and release in one go, as a run of `refresh_marts` does. Returns what `run` does.

    Raises as its parts do; the failure of a family that waits is raised after the release of the others.
    """
    failure = None
    try:
        build.run(force=force, full_refresh=full_refresh)
    except PermanentFailure as error:
        failure = error
    try:
        gate()
        done = run()
    except PermanentFailure:
        if failure is not None:
            raise failure from None
        raise
    if failure is not None:
        raise failure
    return done


def rollback(release_no: int | None = None) -> dict[str, int]:
    """Show an earlier release again: `release_no`, or the newest kept before the live one. Nothing is rebuilt.

    The next release goes live as usual. Raises PermanentFailure when that release is not kept.
    """
    with build.lock() as connection:
        kept = [item["release_no"] for item in _list_releases(connection)]
        live = live_release(connection)
        wanted = release_no if release_no is not None else max((no for no in kept if live and no < live), default=None)
        if wanted is None or wanted not in kept:
            what = f"release {wanted}" if wanted is not None else "an earlier release"
            message = f"{what} is not kept; kept: {', '.join(map(str, kept)) or 'none'}"
            raise PermanentFailure(Problem(Code.RELEASE_UNKNOWN, message))
        if wanted != live:
            _retry_locks(lambda: _show(connection, wanted, "rollback"))
            _drop_views(connection)
        return {"release_no": wanted, "before": live or 0}


def _require_gate(connection: Connection, build_no: int) -> None:
    checked, critical, stale = one(
        connection,
        """
        select
            count(*),
            count(*) filter (
                where not success and severity = 'critical'
                    and suite not in (select mart from ops.carried where build_no = %(build_no)s)
                    and (suite, rule) not in (select mart, rule from ops.finding_accepted)
            ),
            min(checked_at) < (select built_at from ops.build where build_no = %(build_no)s)
        from ops.gate_result
        where build_no = %(build_no)s
        """,
        {"build_no": build_no},
    )
    if not checked or critical or stale:
        raise PermanentFailure(Problem(Code.RELEASE_GATE, f"build {build_no} has not passed its gate"))


@retry(
    retry=retry_if_exception_type(TransientFailure),
    stop=stop_after_attempt(20),
    wait=wait_random_exponential(multiplier=0.1, max=3),
    reraise=True,
)
def _retry_locks(work: Callable[[], None]) -> None:
    """Do the work, which is one transaction; try again when it cannot acquire a lock in time."""
    try:
        work()
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise TransientFailure(f"could not acquire a lock: {str(error).splitlines()[0]}") from error


def _release(connection: Connection, release_no: int) -> None:
    with connection.transaction():
        connection.execute(sql.SQL("set local lock_timeout = {}").format(LOCK_TIMEOUT))
        rows = {
            mart: scalar(connection, sql.SQL("select count(*) from {}").format(sql.Identifier("build", mart)))
            for mart in relations(connection, "build")
        }
        connection.execute(
            "insert into ops.release (release_no, as_of_date, rows)"
            " select build_no, as_of_date, %s from ops.build where build_no = %s",
            [Jsonb(rows), release_no],
        )
        name = sql.Identifier(schemas_of(release_no)[0])
        connection.execute(sql.SQL("alter schema build rename to {}").format(name))
        failpoints.hit("release.after_rename")
        _swap(connection, release_no, "release")
        connection.execute(
            "update ops.build set state = 'released', ended_at = clock_timestamp() where build_no = %s",
            [release_no],
        )
        failpoints.hit("release.before_commit")


def _show(connection: Connection, release_no: int, kind: str) -> None:
    with connection.transaction():
        connection.execute(sql.SQL("set local lock_timeout = {}").format(LOCK_TIMEOUT))
        _swap(connection, release_no, kind)


def _swap(connection: Connection, release_no: int, kind: str) -> None:
    """Replace the schema `marts` with views of a release.

    The old views stay, in a schema of another name, until no reader holds them.
    """
    activation_no = scalar(
        connection,
        "insert into ops.release_activation (release_no, kind) values (%s, %s) returning activation_no",
        [release_no, kind],
    )
    connection.execute(f"create schema {VIEWS}")
    _set_apart(connection, *schemas_of(release_no))
    for schema in schemas_of(release_no):
        for mart in relations(connection, schema):
            _view(connection, release_no, activation_no, schema, mart)
    for schema in (*schemas_of(release_no), VIEWS):
        grant(connection, schema, schemas_of(release_no)[1])
    failpoints.hit("release.before_swap")
    old = sql.Identifier(f"marts_before_{activation_no}")
    if _exists(connection, "marts"):
        connection.execute(sql.SQL("alter schema marts rename to {}").format(old))
    connection.execute(f"alter schema {VIEWS} rename to marts")
    failpoints.hit("release.after_swap")


def _set_apart(connection: Connection, schema: str, consented: str) -> None:
    """Move the marts under row-level security to a schema of their own.

    A person may have a bank's role and another one: who could name the table would come past the view's barrier.
    """
    connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(consented)))
    for mart in under_row_security(connection, schema):
        connection.execute(
            sql.SQL("alter table {} set schema {}").format(sql.Identifier(schema, mart), sql.Identifier(consented))
        )


def _view(connection: Connection, release_no: int, activation_no: int, schema: str, mart: str) -> None:
    """Create a view with the columns and comments of a mart of `schema`. A snapshot older than this switch gets an error.

    Columns renamed in this version are there under their old names too. A mart under row-level security is read with
    the reader's own rights (security_invoker): policies check that role. Its rows are read to the end before any
    condition of the reader is tried, so that no plan, statistic or timing depends on a row that policies hide.
    """
    view, table = sql.Identifier(VIEWS, mart), sql.Identifier(schema, mart)
    of_invoker = schema == schemas_of(release_no)[1]
    columns = connection.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped",
        [table.as_string()],
    ).fetchall()
    deprecated = missing_from(mart, {name for (name,) in columns})
    barrier = sql.SQL("with readable as materialized (select * from {}) ").format(table) if of_invoker else sql.SQL("")
    connection.execute(
        sql.SQL("create view {} {} as {}select {} from {} where ops.assert_release_visible({}, {})").format(
            view,
            sql.SQL("with (security_invoker = true)" if of_invoker else ""),
            barrier,
            sql.SQL(", ").join(
                [
                    sql.SQL("*"),
                    *(sql.SQL("{} as {}").format(d.expression, sql.Identifier(d.column)) for d in deprecated),
                ]
            ),
            sql.Identifier("readable") if of_invoker else table,
            sql.Literal(release_no),
            sql.Literal(activation_no),
        )
    )
    comments = connection.execute(
        """
        select a.attname, d.description
        from pg_description as d
        left join pg_attribute as a on a.attrelid = d.objoid and a.attnum = d.objsubid and d.objsubid > 0
        where d.classoid = 'pg_class'::regclass and d.objoid = %s::regclass
        """,
        [table.as_string()],
    ).fetchall()
    for column, text in [*comments, *((item.column, item.comment) for item in deprecated)]:
        target = sql.SQL("view {}").format(view)
        if column is not None:
            target = sql.SQL("column {}.{}").format(view, sql.Identifier(column))
        connection.execute(sql.SQL("comment on {} is {}").format(target, sql.Literal(text)))


def grant(connection: Connection, schema: str, consented: str | None = None) -> None:
    """Grant the readers select on a schema, and check that they have it. Nothing else grants them anything.

    `consented` is the schema of the tables under row-level security. They are granted only to the roles that their
    policies name, and no reader may use their schema. `bi_reader` reads all others, other readers what the disclosure class
    of each mart lets them (ADR 0033), `public_reader` the views only. Says the class of each mart in its comment. Raises
    PermanentFailure when the grants are not as expected.
    """
    restricted = under_row_security(connection, consented)
    marts = relations(connection, schema)
    name = sql.Identifier(schema)
    grant_usage = sql.SQL("grant usage on schema {} to {}")
    grant_select = sql.SQL("grant select on {} to {}")
    for mart in marts:
        _say_class(connection, schema, mart)
        for role in restricted.get(mart, ()):
            if schema != consented:
                connection.execute(grant_usage.format(name, sql.Identifier(role)))
            connection.execute(grant_select.format(sql.Identifier(schema, mart), sql.Identifier(role)))
    for reader in _readers(connection):
        shown = [mart for mart in marts if mart not in restricted and _may_read(reader, mart, schema != VIEWS)]
        if reader != READER:
            # The class of a mart of a kept release may be stricter by now.
            connection.execute(
                sql.SQL("revoke select on all tables in schema {} from {}").format(name, sql.Identifier(reader))
            )
        if shown or (reader == READER and schema != consented):
            connection.execute(grant_usage.format(name, sql.Identifier(reader)))
        for mart in shown:
            connection.execute(grant_select.format(sql.Identifier(schema, mart), sql.Identifier(reader)))
        _require_grants(connection, schema, reader, shown)


def _readers(connection: Connection) -> list[str]:
    """The readers that are there: a warehouse of an earlier version has the newer ones from its next `sampan init` on."""
    wanted = [READER, POLICY_READER, PUBLIC_READER]
    rows = connection.execute("select rolname from pg_roles where rolname = any(%s)", [wanted]).fetchall()
    return [READER, *sorted({role for (role,) in rows} - {READER})]


def _may_read(reader: str, mart: str, is_tables: bool) -> bool:
    return reader == READER or (
        reader in disclosure.class_of(mart).readers and not (reader == PUBLIC_READER and is_tables)
    )


def _require_grants(connection: Connection, schema: str, reader: str, shown: list[str]) -> None:
    wrong = connection.execute(
        f"""
        with readable as (
            select
                relname,
                has_table_privilege(%(reader)s, oid, 'select')
                    and has_schema_privilege(%(reader)s, relnamespace, 'usage') as is_readable
            from pg_class
            where relnamespace = to_regnamespace(%(schema)s) and {READABLE}
        )
        select relname from readable where is_readable <> (relname = any(%(shown)s)) order by relname
        """,
        {"reader": reader, "schema": schema, "shown": shown},
    ).fetchall()
    if wrong:
        marts = ", ".join(f"{schema}.{row[0]}" for row in wrong)
        message = f"grants of {reader} are not as expected (missing, or not the reader's to see) on {marts}"
        raise PermanentFailure(Problem(Code.RELEASE_GRANTS, message))


def _say_class(connection: Connection, schema: str, mart: str) -> None:
    """Put the class of a mart at the end of its comment, in place of one that it had."""
    sentences = [item.sentence for item in disclosure.CLASSES.values()]
    relation, query = (
        f'{schema}."{mart}"',
        "select relkind, obj_description(oid) from pg_class where oid = %s::regclass",
    )
    kind, comment = one(connection, query, [relation])
    text = comment or ""
    for sentence in sentences:
        text = text.replace(sentence, "")
    text = f"{text.rstrip()} {disclosure.class_of(mart).sentence}".strip()
    if text != comment:
        what = sql.SQL("view" if kind == "v" else "table")
        connection.execute(
            sql.SQL("comment on {} {} is {}").format(what, sql.Identifier(schema, mart), sql.Literal(text))
        )


def under_row_security(connection: Connection, schema: str | None) -> dict[str, list[str]]:
    """The marts of a schema that are under row-level security, with the roles that their policies name.

    Raises PermanentFailure when it is not forced on one: the owner's views would then read every row.
    """
    rows = connection.execute(
        """
        select
            relname,
            relforcerowsecurity,
            coalesce(array_agg(distinct role order by role) filter (where role <> current_user), '{}')
        from pg_class
        left join pg_policies on schemaname = %(schema)s and tablename = relname
        left join unnest(roles) as role on true
        where relnamespace = to_regnamespace(%(schema)s) and relrowsecurity
        group by relname, relforcerowsecurity
        """,
        {"schema": schema},
    ).fetchall()
    unforced = [mart for mart, forced, _ in rows if not forced]
    if unforced:
        message = f"row-level security is not forced on {', '.join(unforced)}"
        raise PermanentFailure(Problem(Code.RELEASE_ROW_SECURITY, message))
    return {mart: roles for mart, _, roles in rows}


def _exists(connection: Connection, schema: str) -> bool:
    return bool(scalar(connection, "select to_regnamespace(%s) is not null", [schema]))


# --- dropping ---------------------------------------------------------------------------------------------------------


def _drop_old(connection: Connection) -> None:
    """Drop the views that were swapped out, then all but the last 5 releases; never the live one.

    What a reader still uses, here or on a standby, stays until the next time. Never CASCADE: a user's view on a release has
    to block the drop.
    """
    _drop_views(connection)
    live = live_release(connection)
    for item in _list_releases(connection)[KEEP:]:
        if item["release_no"] != live:
            _drop_schemas(connection, schemas_of(item["release_no"]), item["release_no"])


def _drop_views(connection: Connection, at_once: bool = False) -> None:
    """Drop the views that were swapped out and that no reader uses any more, nor, unless `at_once`, one of a standby."""
    stay = VIEWS_STAY if not at_once and _has_standby(connection) else timedelta()
    query = """
        select nspname from pg_namespace
        left join ops.release_activation on nspname = format('marts_before_%%s', activation_no)
        where nspname ~ '^marts_before_[0-9]+$'
            and coalesce(activated_at <= clock_timestamp() - %s::interval, true)
        order by nspname
    """
    for (schema,) in connection.execute(query, [stay]).fetchall():
        _drop_schemas(connection, [schema])


def _has_standby(connection: Connection) -> bool:
    """Whether another server follows this one, or will when it is back; one that reads archived files only is not seen."""
    query = """
        select
            exists (select from pg_stat_replication)
            or exists (select from pg_replication_slots where slot_type = 'physical' and not temporary)
    """
    return bool(scalar(connection, query))


def drop_release(connection: Connection, release_no: int) -> None:
    """Drop a release, unless a reader of this server still uses it: then it stays until the next attempt."""
    _drop_views(connection, at_once=True)
    _drop_schemas(connection, schemas_of(release_no), release_no)


def _drop_schemas(connection: Connection, schemas: Iterable[str], release_no: int | None = None) -> None:
    try:
        with connection.transaction():
            connection.execute(sql.SQL("set local lock_timeout = {}").format(LOCK_TIMEOUT))
            for schema in schemas:
                drop_relations(connection, schema)
                connection.execute(sql.SQL("drop schema if exists {}").format(sql.Identifier(schema)))
            if release_no is not None:
                connection.execute(
                    "update ops.release set dropped_at = clock_timestamp() where release_no = %s", [release_no]
                )
            failpoints.hit("release.before_drop_commit")
    except (
        psycopg.errors.LockNotAvailable,
        psycopg.errors.DeadlockDetected,
        psycopg.errors.DependentObjectsStillExist,
    ):
        return


# --- listing ----------------------------------------------------------------------------------------------------------


def live_release(connection: Connection) -> int | None:
    """Number of the release that `marts` shows; None before the first."""
    row = connection.execute(
        "select release_no from ops.release_activation order by activation_no desc limit 1"
    ).fetchone()
    return row[0] if row else None


def marts_of(connection: Connection, release_no: int | None) -> list[str]:
    """The marts of a release, by name; none without a release."""
    query = "select jsonb_object_keys(rows) from ops.release where release_no = %s order by 1"
    return [mart for (mart,) in connection.execute(query, [release_no]).fetchall()]


def _list_releases(connection: Connection) -> list[dict[str, Any]]:
    """Releases that were not dropped, newest first."""
    rows = connection.execute(
        "select release_no, as_of_date, released_at, rows from ops.release where dropped_at is null order by 1 desc"
    ).fetchall()
    return [
        {"release_no": no, "as_of_date": as_of, "released_at": at, "rows": rows_of} for no, as_of, at, rows_of in rows
    ]


def list_releases() -> list[dict[str, Any]]:
    """Releases that are kept, newest first: release_no, as_of_date, released_at, rows per mart, whether it is live."""
    with connect("builder") as connection:
        live = live_release(connection)
        return [item | {"live": item["release_no"] == live} for item in _list_releases(connection)]


def show_kept(release_no: int) -> dict[str, Any]:
    """One release, as `show` does. Raises PermanentFailure when it is not kept, or never was."""
    shown = show(release_no)
    if shown["dropped_at"] is not None:
        message = f"release {release_no} is not kept; `sampan release list` shows those that are"
        raise PermanentFailure(Problem(Code.RELEASE_UNKNOWN, message))
    return shown


def show(release_no: int) -> dict[str, Any]:
    """One release: as in `list_releases`, with batches taken in per feed, broken rules, and when it went live.

    Raises PermanentFailure when there never was such a release.
    """
    with connect("builder") as connection:
        row = connection.execute(
            "select release_no, as_of_date, released_at, dropped_at, rows from ops.release where release_no = %s",
            [release_no],
        ).fetchone()
        if row is None:
            raise PermanentFailure(
                Problem(
                    Code.RELEASE_UNKNOWN, f"no release {release_no}; `sampan release list` shows those that are kept"
                )
            )
        batches = connection.execute(
            """
            select
                feed,
                concat(
                    count(*) filter (where not is_withdrawn),
                    ', ' || nullif(count(*) filter (where is_withdrawn), 0) || ' taken out'
                )
            from ops.build_batch
            join ops.batch using (batch_id)
            where build_no = %s
            group by feed
            order by feed
            """,
            [release_no],
        ).fetchall()
        broken = connection.execute(
            "select suite, rule, severity from ops.gate_result where build_no = %s and not success order by 1, 2",
            [release_no],
        ).fetchall()
        carried = connection.execute(
            "select mart, from_release_no from ops.carried where build_no = %s order by 1", [release_no]
        ).fetchall()
        switches = connection.execute(
            "select kind, activated_at from ops.release_activation where release_no = %s order by activation_no",
            [release_no],
        ).fetchall()
        return {
            **dict(zip(("release_no", "as_of_date", "released_at", "dropped_at", "rows"), row, strict=True)),
            "live": live_release(connection) == release_no,
            "carried": [f"{mart} of release {no}" for mart, no in carried],
            "batches": dict(batches),
            "broken_rules": [f"{suite}: {rule} ({severity})" for suite, rule, severity in broken],
            "shown": [f"{kind} {at:%Y-%m-%d %H:%M:%S}" for kind, at in switches],
        }
