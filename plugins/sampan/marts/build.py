"""Build: derive the marts with dbt, one step after another.

A build takes in the published batches that no successful build has taken in before. There is at most one at a time. It may
stop after any step and go on later; its first step takes in what was published since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import psycopg
from psycopg.types.json import Jsonb

from sampan import database, failpoints, feed_hooks, progress
from sampan.database import Connection, connect, drop_relations, one, scalar
from sampan.engine import engine
from sampan.engine.postgres import Postgres
from sampan.errors import Code, PermanentFailure, Problem, TransientFailure
from sampan.marts import carry, dbt
from sampan.marts.dbt import DbtRunner, StepResult
from sampan.marts.steps import Step, all_steps, names
from sampan.text import did_you_mean

# From this share of all published rows on, a full refresh costs less than merging the new rows.
FULL_REFRESH_SHARE = 0.5
# Seeds that incremental tables read: rows from batches taken in long ago depend on their content.
INCREMENTAL_SEEDS = ("customs_regimes", "declaration_exemptions", "gold_codes")
# Deliveries that hang on their way, or whose ingest is paused, keep the others waiting no longer than this.
PATIENCE = timedelta(minutes=15)
# A published batch waits so long at most for feeds that are due one soon after the other, and a build that failed for its
# next attempt.
LONGEST_WAIT = timedelta(hours=6)
# A family waits so long at most for those that an engine builds before it.
TURN = "1h"
# Longest message of a failed step that is kept with its build.
LONGEST_MESSAGE = 2000
# How many batches the message of a failed step names.
NAMED = 10
SETTLED = ("done", "carried")


@dataclass(frozen=True)
class Build:
    """The current build: its state (open or built), how many batches it takes in, and the engine that it was begun with."""

    build_no: int
    state: str
    full_refresh: bool
    batches: int
    engine: str


def run(step: str | None = None, *, force: bool = False, full_refresh: bool = False) -> dict[str, int]:
    """Run one step of the current build, or all of them. The first step starts a build if published batches wait for one.

    `force` builds even if nothing is new; `full_refresh` rebuilds the incremental tables from all of `raw`. Returns
    build_no, batches taken in and nodes run; zero batches when there is nothing to do. Steps that are done are skipped.
    Raises PermanentFailure when a model or a test fails, TransientFailure when the database is away or busy. Of all steps,
    a family of marts that fails stops no other: the failure is raised at the end, and the build can be released without it.
    """
    if step is not None and step not in names():
        message = f"unknown step {step!r}{did_you_mean(step, names(), 'steps')}"
        raise PermanentFailure(Problem(Code.BUILD_UNKNOWN_STEP, message))
    with _left_to_the_next(step):
        return _run_steps(step, force, full_refresh)


@contextmanager
def _left_to_the_next(step: str | None) -> Iterator[None]:
    """Leave what the engine has running to the next step of the build; end it after the last one, or an error."""
    try:
        yield
    except BaseException:
        engine().close()
        raise
    if step in (None, names()[-1]):
        engine().close()
    else:
        engine().leave()


def _run_steps(step: str | None, force: bool, full_refresh: bool) -> dict[str, int]:
    """As `run`, with an engine that is left or ended after it."""
    runner = DbtRunner()
    total = {"build_no": 0, "batches": 0, "nodes": 0}
    failures: list[PermanentFailure] = []
    for position, wanted in enumerate(all_steps()):
        if step not in (None, wanted.name):
            continue
        progress.report(wanted.name, position, len(all_steps()))
        with lock(wanted) as connection:
            build = _begin(connection, force, full_refresh) if position == 0 else current(connection)
            if build is None:
                return total
            nodes = 0
            try:
                if build.state != "built":
                    nodes = _run_step(connection, build, wanted, runner)
            except PermanentFailure as error:
                if step is not None or not wanted.may_wait:
                    raise
                failures.append(error)
        total |= {"build_no": build.build_no, "batches": build.batches, "nodes": total["nodes"] + nodes}
    if failures:
        message = "; ".join(failure.problem.message for failure in failures)
        raise PermanentFailure(Problem(Code.BUILD_FAILED, message))
    return total


class Advice(StrEnum):
    """Whether to build now."""

    BUILD = "build"
    WAIT = "wait"
    SKIP = "skip"


def advise(waited: timedelta | None) -> tuple[Advice, str]:
    """Whether to build now, and why: what comes together is to become one build.

    `waited` says for how long the caller has waited; None when it will not. Skip when nothing is to be built, or a feed is
    due within half an hour and the others have not waited for LONGEST_WAIT: the build after it takes in all. Wait while
    deliveries are arriving (on their way, or due and the feed not polled yet), but not longer than PATIENCE for those that
    hang. A feed that is late at the partner, or whose delivery is held, is not waited for. Skip, too, when the last build
    failed and nothing was published or decided since, for LONGEST_WAIT.
    """
    with connect("builder") as connection:
        if not (_is_waited_for(connection) or current(connection)):
            return Advice.SKIP, "nothing that was published or decided is waiting for a build"
        if waited is None:
            return Advice.BUILD, "at once"
        on_the_way = connection.execute("select feed from ops.feed_on_the_way order by feed").fetchall()
        if on_the_way and waited < PATIENCE:
            # Known at once; what is due takes a second to find out.
            return Advice.WAIT, f"arriving: {', '.join(feed for (feed,) in on_the_way)}"
        failed_at = _failed_at(connection)
        oldest, newest = one(
            connection,
            """
            select
                (select min(published_at) from ops.batches_waiting inner join ops.batch using (batch_id)),
                max(since)
            from ops.waits_for_build
            """,
        )
        rows = connection.execute(
            "select feed, bool_or(due_at <= ops.now()) from ops.feed_coming group by feed order by feed"
        ).fetchall()
    now = datetime.now(UTC)
    if failed_at and now - failed_at < LONGEST_WAIT and not (newest and newest > failed_at):
        return Advice.SKIP, f"the build failed at {failed_at:%F %R %Z}, and nothing was published or decided since"
    arriving = ", ".join(feed for feed, is_due in rows if is_due)
    due_soon = ", ".join(feed for feed, is_due in rows if not is_due)
    if arriving and waited < PATIENCE:
        return Advice.WAIT, f"arriving: {arriving}"
    if due_soon and oldest and now - oldest < LONGEST_WAIT:
        return Advice.SKIP, f"due within half an hour: {due_soon}"
    return Advice.BUILD, f"without {arriving}, which did not arrive" if arriving else "all that was due has arrived"


@contextmanager
def lock(step: Step | None = None) -> Iterator[Connection]:
    """A builder's connection that holds the right to build until it is closed: alone, or beside other families of marts.

    Raises TransientFailure when another builder holds it. A builder that dies loses it at once.
    """
    complaint = "another builder is working on this warehouse"
    is_family = step is not None and step.is_family
    shared = is_family and engine().is_shared
    with (
        connect("builder") as connection,
        # Families that may not be built beside each other wait for each other.
        database.lock("builder", "build", complaint, shared=shared, wait=TURN if is_family and not shared else ""),
        database.lock("builder", f"build_{step.name}", complaint) if step and shared else nullcontext(),
    ):
        yield connection


def current(connection: Connection) -> Build | None:
    """The current build; None when there is none."""
    row = connection.execute("""
        select
            build_no, state, full_refresh, (select count(*) from ops.build_batch where build_no = build.build_no), engine
        from ops.build
        where state in ('open', 'built')
    """).fetchone()
    return Build(*row) if row else None


def let_wait(connection: Connection, build_no: int) -> None:
    """Carry the marts of steps that failed from the live release, once all others are done; the build is then complete.

    Does nothing when a step is not done that has not failed or that all others rest on, when no family is done, or before
    the first release.
    """
    states = _states(connection, build_no)
    failed = [step.name for step in all_steps() if step.may_wait and states.get(step.name) == "failed"]
    others = [step for step in all_steps() if step.name not in failed]
    something_new = any(step.is_family and states.get(step.name) == "done" for step in others)
    if something_new and all(states.get(step.name) in SETTLED for step in others):
        for name in failed:
            carry.carry(connection, build_no, name, _why(connection, build_no, name))
        _complete(connection, build_no)


def _why(connection: Connection, build_no: int, step: str) -> Problem:
    """What failed in a step, by its nodes."""
    rows = connection.execute(
        """
        select node, coalesce(message, status) from ops.build_node
        where build_no = %s and step = %s and status <> all(%s) and status <> 'skipped'
        order by node
        """,
        [build_no, step, list(dbt.DONE)],
    ).fetchall()
    what = "; ".join(f"{node.split('.')[2]}: {message}" for node, message in rows) or "see the log of the step"
    return Problem(Code.BUILD_FAILED, f"step {step} failed: {what}"[:LONGEST_MESSAGE])


def abandon(connection: Connection, build_no: int, problem: Problem) -> None:
    """Mark the build as failed: nothing of it is released, and its batches wait for the next one."""
    connection.execute(
        """
        update ops.build set state = 'failed', ended_at = clock_timestamp(), problem = %s
        where build_no = %s and state in ('open', 'built')
        """,
        [Jsonb(problem.as_dict()), build_no],
    )


def require_done(build_no: int, step: str, result: StepResult, hint: str = "") -> None:
    """Raise when a step failed: TransientFailure when trying again may help, else PermanentFailure, with a hint."""
    if not result.problem:
        return
    message = f"step {step} of build {build_no} failed: {result.problem}"
    if result.is_transient:
        raise TransientFailure(message)
    raise PermanentFailure(Problem(Code.BUILD_FAILED, message[: LONGEST_MESSAGE - len(hint)] + hint))


# --- beginning --------------------------------------------------------------------------------------------------------


def _begin(connection: Connection, force: bool, full_refresh: bool) -> Build | None:
    """The current build or a new one, with every published batch that no build took in; None when nothing is new.

    All steps of the current build run again when it takes in more batches, when `force` or `full_refresh` is set, or when it
    was begun with another engine.
    """
    with connection.transaction():
        feed_hooks.before_build(connection)
        build = current(connection)
        is_elsewhere = build is not None and build.engine != engine().name
        if not (_is_waited_for(connection) or force or full_refresh or is_elsewhere):
            return build
        build_no = build.build_no if build else _new_build(connection)
        if build_no is not None:
            _take_in(connection, build_no)
            full_refresh = full_refresh or _is_full_refresh_due(connection)
            connection.execute(
                """
                update ops.build set
                    state = 'open', built_at = null, judged_at = ops.now(), full_refresh = full_refresh or %s,
                    seeds_sha256 = %s, engine = %s,
                    as_of_date = coalesce((select max(business_date) from ops.batches_built), as_of_date)
                where build_no = %s
                """,
                [full_refresh, _seeds_sha256(), engine().name, build_no],
            )
        return current(connection)


def _is_waited_for(connection: Connection) -> bool:
    """Whether something that was published, withdrawn or decided waits for a build."""
    return bool(scalar(connection, "select exists (select from ops.waits_for_build)"))


def _failed_at(connection: Connection) -> datetime | None:
    """When the newest build failed: at its gate, or in a step; None when it did not."""
    found: datetime | None = scalar(
        connection,
        """
        select max(coalesce(build.ended_at, step.ended_at))
        from ops.build
        left join ops.build_step as step on build.build_no = step.build_no and step.state = 'failed'
        where
            build.build_no = (select max(build_no) from ops.build where state <> 'as_known')
            and (build.state = 'failed' or (build.state = 'open' and step.step is not null))
        """,
    )
    return found


def _new_build(connection: Connection) -> int | None:
    """Number of a new build; None when nothing was published yet."""
    row = connection.execute("""
        insert into ops.build (as_of_date)
        select max(business_date) from ops.batch where state in ('published', 'withdrawn')
        having max(business_date) is not null
        returning build_no
    """).fetchone()
    return row[0] if row else None


def _take_in(connection: Connection, build_no: int) -> None:
    """Add the published batches that no build took in, and the withdrawn ones to take out; let every step run again."""
    connection.execute(
        """
        insert into ops.build_batch (build_no, batch_id, counts_from, is_withdrawn)
        select %s, batch_id, counts_from, is_withdrawn from ops.batches_waiting
        on conflict (build_no, batch_id) do update set
            counts_from = excluded.counts_from, is_withdrawn = excluded.is_withdrawn
        """,
        [build_no],
    )
    # A higher token: a worker that still runs under an earlier claim of a step is refused.
    connection.execute(
        "update ops.build_step set state = 'waiting', token = token + 1, ended_at = null where build_no = %s",
        [build_no],
    )
    connection.execute("delete from ops.carried where build_no = %s", [build_no])
    # An unfinished build may have left relations in the schema that the next release is made of.
    drop_relations(connection, "build")


def _is_full_refresh_due(connection: Connection) -> bool:
    return (
        _takes_out(connection)
        or _mostly_new(connection)
        or _keeps_deleted(connection)
        or _seeds_changed(connection)
        or _is_upgraded(connection)
        or not engine().holds(connection)
    )


def _takes_out(connection: Connection) -> bool:
    """True when the build takes out a withdrawn batch, or a full refresh was begun and no release came of it."""
    query = """
        select
            exists (select from ops.build_batch inner join ops.open_build using (build_no) where is_withdrawn)
            or exists (
                select from ops.build
                where full_refresh and state = 'failed'
                    and build_no > (select coalesce(max(build_no), 0) from ops.build where state = 'released')
            )
    """
    return bool(scalar(connection, query))


def _mostly_new(connection: Connection) -> bool:
    """True when the new batches are large enough that a full refresh is cheaper."""
    query = """
        with new as (select batch_id from ops.batches_to_build)
        select
            coalesce(sum(rows_published) filter (where batch_id in (select batch_id from new)), 0)
                >= %s * coalesce(sum(rows_published), 0)
        from ops.batch
        inner join ops.batches_built using (batch_id)
    """
    return bool(scalar(connection, query, [FULL_REFRESH_SHARE]))


def _keeps_deleted(connection: Connection) -> bool:
    """True when sums may still include rows that retention deleted in an earlier month: a full refresh removes them."""
    query = """
        with last_refresh as (
            select max(opened_at) as opened_at from ops.build where full_refresh and state = 'released'
        )
        select exists (
            select from ops.deletion
            inner join ops.build_batch using (batch_id)
            where
                verified_at < date_trunc('month', now())
                and verified_at > coalesce((select opened_at from last_refresh), '-infinity')
        )
    """
    return bool(scalar(connection, query))


def _seeds_changed(connection: Connection) -> bool:
    """True when a seed of an incremental table differs from the one that the newest release was made with."""
    query = """
        with newest as (select seeds_sha256 from ops.build where state = 'released' order by build_no desc limit 1)
        select coalesce((select seeds_sha256 from newest) <> %s, false)
    """
    return bool(scalar(connection, query, [_seeds_sha256()]))


def _is_upgraded(connection: Connection) -> bool:
    """True when incremental tables are of another version's models: released before this one came, not in full since."""
    query = """
        with versions as (
            select applied_at, version, lag(version) over (order by applied_at) as before from ops.schema_version
        ),
        released as (
            select opened_at, full_refresh from ops.build where state = 'released'
        )
        select exists (
            select from versions
            where version is distinct from before
                and exists (select from released where opened_at < applied_at)
                and not exists (select from released where full_refresh and opened_at > applied_at)
        )
    """
    return bool(scalar(connection, query))


def _seeds_sha256() -> str:
    contents = ((dbt.SEEDS / f"{seed}.csv").read_bytes() for seed in INCREMENTAL_SEEDS)
    return hashlib.sha256(b"".join(contents)).hexdigest()


# --- one step ---------------------------------------------------------------------------------------------------------


def _run_step(connection: Connection, build: Build, step: Step, runner: DbtRunner) -> int:
    """Run a step unless it is done. Returns how many nodes ran. Raises as `run` does."""
    states = _states(connection, build.build_no)
    if states.get(step.name) in SETTLED:
        return 0
    if step.name == dbt.SUMMARY:
        # It is made of what there is: of a family that failed, the marts of the live release.
        for name in [other.name for other in all_steps() if other.is_family and states.get(other.name) == "failed"]:
            carry.carry(connection, build.build_no, name, _why(connection, build.build_no, name))
        states = _states(connection, build.build_no)
    _require_earlier_steps(build, step, states)
    token = _claim(connection, build.build_no, step.name)
    claim = f"{build.build_no}/{step.name}/{token}"
    is_first = step == all_steps()[0]
    if is_first:
        engine().begin(connection)
    if step.prepare:
        try:
            step.prepare(connection, claim)
        except (TransientFailure, psycopg.Error):
            raise
        except Exception as error:
            # So that a family that fails here waits like one whose models fail.
            failed = StepResult(error=f"{type(error).__name__} while it was prepared")
            _finish(connection, build, step.name, token, failed)
            raise
    if step.prepare or is_first:
        engine().refresh(connection)
    if step.name == dbt.SUMMARY:
        engine().take(connection, carry.carried(connection, build.build_no))
    nodes = _unfinished(connection, build.build_no, step.name) if states.get(step.name) == "failed" else ()
    result = runner.run(step.name, build.build_no, claim, full_refresh=build.full_refresh, nodes=nodes)
    result = _hand_over(connection, claim, runner, result)
    if result.is_done and not step.may_wait:
        engine().end(build.build_no)
    failpoints.hit(f"build.after_{step.name}")
    _finish(connection, build, step.name, token, result)
    require_done(build.build_no, step.name, result, "" if step.may_wait else _brought(connection, runner, result))
    return len(result.nodes)


def _hand_over(connection: Connection, claim: str, runner: DbtRunner, result: StepResult) -> StepResult:
    """Give the warehouse the marts of a step that another engine made. What is wrong with one becomes its node's failure."""
    if engine().name == Postgres.name:
        return result
    wrong = engine().hand_over(connection, claim, runner.marts(result))
    nodes = (
        replace(node, status="error", message=wrong[node.node]) if node.node in wrong else node for node in result.nodes
    )
    return replace(result, nodes=tuple(nodes))


def _states(connection: Connection, build_no: int) -> dict[str, str]:
    return dict(connection.execute("select step, state from ops.build_step where build_no = %s", [build_no]).fetchall())


def _brought(connection: Connection, runner: DbtRunner, result: StepResult) -> str:
    """Which batches are new in the build, of the feeds that the broken nodes are made from: one may be the cause."""
    feeds = runner.feeds_behind(result)
    rows = connection.execute(
        """
        select feed, batch_id, business_date from ops.batches_to_build
        where %(feeds)s::text[] = '{}' or feed = any(%(feeds)s)
        order by feed, batch_id desc
        """,
        {"feeds": sorted(feeds)},
    ).fetchall()
    if not rows:
        return ""
    named = ", ".join(f"{feed} batch {number} of {day}" for feed, number, day in rows[:NAMED])
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return (
        f". New in it: {named}{more}. If one of them is wrong, run"
        ' `sampan withdraw <feed> --batch <number> --reason "..."`, then `sampan refresh`'
    )


def _require_earlier_steps(build: Build, step: Step, states: dict[str, str]) -> None:
    if build.engine != engine().name:
        message = (
            f"build {build.build_no} was begun with {build.engine}, and SAMPAN_BUILD_ENGINE is {engine().name}; run step"
            f" {names()[0]} to begin again"
        )
        raise PermanentFailure(Problem(Code.BUILD_ORDER, message))
    before = all_steps()[: names().index(step.name)]
    needed = [other.name for other in before if not (step.is_family and other.is_family)]
    missing = [name for name in needed if states.get(name) not in SETTLED]
    if missing:
        message = f"step {step.name} of build {build.build_no} comes after {', '.join(missing)}"
        raise PermanentFailure(Problem(Code.BUILD_ORDER, message))


def _unfinished(connection: Connection, build_no: int, step: str) -> list[str]:
    """The nodes of a failed step that failed or were skipped; none when dbt itself failed before it ran any."""
    rows = connection.execute(
        "select node, status from ops.build_node where build_no = %s and step = %s", [build_no, step]
    )
    return sorted(node for node, status in rows if status not in dbt.DONE)


def _claim(connection: Connection, build_no: int, step: str) -> int:
    """Claim a step. Returns the fencing token of the claim, higher than that of any claim before."""
    (token,) = one(
        connection,
        """
        insert into ops.build_step (build_no, step) values (%s, %s)
        on conflict (build_no, step) do update set
            state = 'running', token = build_step.token + 1, started_at = clock_timestamp(), ended_at = null
        returning token
        """,
        [build_no, step],
    )
    return int(token)


def _finish(connection: Connection, build: Build, step: str, token: int, result: StepResult) -> None:
    """Store the result of a step and its nodes, unless another worker has claimed it since."""
    with connection.transaction():
        # Of two families that end at the same time, the later one has to see the earlier one as done.
        connection.execute("select from ops.build where build_no = %s for update", [build.build_no])
        changed = connection.execute(
            """
            update ops.build_step set state = %s, ended_at = clock_timestamp()
            where build_no = %s and step = %s and token = %s
            """,
            ["done" if result.is_done else "failed", build.build_no, step, token],
        )
        if changed.rowcount != 1:
            raise TransientFailure(f"step {step} of build {build.build_no} was claimed by another worker")
        with connection.cursor() as cursor:
            cursor.executemany(
                """
                insert into ops.build_node
                    (build_no, step, node, resource_type, status, seconds, rows, failures, message)
                values (
                    %(build_no)s, %(step)s, %(node)s, %(resource_type)s, %(status)s, %(seconds)s, %(rows)s,
                    %(failures)s, %(message)s
                )
                on conflict (build_no, step, node) do update set
                    status = excluded.status, seconds = excluded.seconds, rows = excluded.rows,
                    failures = excluded.failures, message = excluded.message, recorded_at = clock_timestamp()
                """,
                [asdict(node) | {"build_no": build.build_no, "step": step} for node in result.nodes],
            )
        _complete(connection, build.build_no)


def _complete(connection: Connection, build_no: int) -> None:
    """Call a build built when none of its steps is left to do."""
    connection.execute(
        """
        update ops.build set state = 'built', built_at = clock_timestamp()
        where
            build_no = %(build_no)s
            and state = 'open'
            and %(steps)s = (
                select count(*) from ops.build_step where build_no = %(build_no)s and state = any(%(settled)s)
            )
        """,
        {"build_no": build_no, "steps": len(all_steps()), "settled": list(SETTLED)},
    )
