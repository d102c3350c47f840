"""Build: derive the marts with dbt, one step per folder of the dbt project, each a `dbt build` in this process.

A build takes in the published batches that no successful build took before it. Only one is under way at a time; it may
be left and taken up again at any step, and takes in what was published since whenever its first step runs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo
from psycopg.types.json import Jsonb

from sampan import failpoints, feed_hooks
from sampan.database import advisory_lock, connect, drop_relations
from sampan.errors import Code, PermanentFailure, Problem, TransientFailure
from sampan.identity import resolve as identity
from sampan.marts import outcomes
from sampan.marts import suppression as disclosure
from sampan.settings import HOME, settings

PROJECT = HOME / "dbt_project"
MARTS = "marts"
# What is reckoned outside the database before the models of a step run. Each is handed the builder's connection and the
# step's claim.
BEFORE: dict[str, Callable[[psycopg.Connection[Any], str], object]] = {
    "identity": lambda _, claim: identity.run(claim),
    f"{MARTS}__funding": lambda _, claim: outcomes.run(claim),
    disclosure.STEP: lambda connection, _: disclosure.run(connection),
}
# Share of all published rows from which on a build derives its persistent tables anew instead of merging into them.
MOSTLY = 0.5
# Seeds that persistent tables are derived with: what such a table says of batches taken in long ago rests on their content.
SEEDS = PROJECT / "seeds"
LASTING_SEEDS = ("customs_regimes", "declaration_exemptions", "gold_codes")
# What a database says when it is away or busy rather than at odds with a model.
AWAY = ("could not connect", "connection to server", "server closed the connection", "terminating connection",
        "deadlock detected", "lock timeout", "the database system is", "was claimed by another worker")  # fmt: skip


@dataclass(frozen=True)
class Build:
    """The build under way."""

    build_no: int
    state: str
    full_refresh: bool
    batches: int


@cache
def steps() -> tuple[str, ...]:
    """The steps in order: the folders that dbt_project.yml configures, and each family of marts by itself."""
    project = yaml.safe_load((PROJECT / "dbt_project.yml").read_text(encoding="utf-8"))
    folders = [name for name in project["models"]["sampan"] if not name.startswith("+")]
    families = sorted(path.name for path in (PROJECT / "models" / MARTS).iterdir() if path.is_dir())
    of_families = tuple(f"{MARTS}__{family}" for family in families)
    at = folders.index(MARTS)
    return (*folders[:at], *of_families, *folders[at + 1 :])


def _selection(step: str) -> list[str]:
    folders = [f"path:models/{step.replace('__', '/')}"]
    return ["path:seeds", *folders] if step == steps()[0] else folders


def _alongside(step: str) -> bool:
    """Whether the step may run beside others: families of marts read the same tables and write each their own."""
    return step.startswith(f"{MARTS}__")


@contextmanager
def lock(step: str | None = None) -> Iterator[psycopg.Connection[Any]]:
    """A builder's connection that holds the right to build, in full or beside other families, until it is closed.

    Raises TransientFailure when another builder is at work. A builder that dies loses the right at once.
    """
    complaint = "another builder is at work on this warehouse"
    beside = step is not None and _alongside(step)
    with (
        connect("builder") as connection,
        advisory_lock(connection, "sampan.build", complaint, shared=beside),
        advisory_lock(connection, f"sampan.build.{step}", complaint) if beside else nullcontext(),
    ):
        yield connection


def current(connection: psycopg.Connection[Any]) -> Build | None:
    """The build under way, if one is."""
    row = connection.execute(
        "select build_no, state, full_refresh, (select count(*) from ops.build_batch where build_no = build.build_no)"
        " from ops.build where state in ('open', 'built')"
    ).fetchone()
    return Build(*row) if row else None


def _begin(connection: psycopg.Connection[Any], force: bool, full_refresh: bool) -> Build | None:
    """The build under way or a new one, with every published batch that no build took in; None without anything new.

    What was done of the build under way is done again when it takes in more, or when `force` or `full_refresh` asks so.
    """
    with connection.transaction():
        feed_hooks.before_build(connection)
        build = current(connection)
        waiting = connection.execute(
            "select count(*) from ops.batch where state = 'published'"
            " and batch_id not in (select batch_id from ops.batches_built)"
        ).fetchone()[0]  # type: ignore[index]
        again = bool(waiting or force or full_refresh)
        if build is None:
            if not again:
                return None
            row = connection.execute(
                "insert into ops.build (as_of_date) select max(business_date) from ops.batch where state = 'published'"
                " having max(business_date) is not null returning build_no"
            ).fetchone()
            if row is None:
                return None
            build_no = row[0]
        else:
            build_no = build.build_no
        if again:
            connection.execute(
                "insert into ops.build_batch (build_no, batch_id) select %s, batch_id from ops.batch"
                " where state = 'published' and batch_id not in (select batch_id from ops.batches_built)",
                [build_no],
            )
            # Their tokens go on: whoever still works under an earlier claim of a step is refused.
            connection.execute(
                "update ops.build_step set state = 'waiting', token = token + 1, ended_at = null where build_no = %s",
                [build_no],
            )
            # What an unfinished build left in the schema that the next release is made of.
            drop_relations(connection, "build")
            connection.execute(
                "update ops.build set state = 'open', built_at = null, judged_at = ops.now(),"
                " full_refresh = full_refresh or %s, seeds_sha256 = %s,"
                " as_of_date = (select max(business_date) from ops.batches_built) where build_no = %s",
                [
                    full_refresh or _mostly_new(connection) or _keeps_deleted(connection) or _seeds_changed(connection),
                    _seeds_sha256(),
                    build_no,
                ],
            )
        return current(connection)


def _mostly_new(connection: psycopg.Connection[Any]) -> bool:
    """Whether the build takes in so much of all there is that deriving it all anew costs less than merging it."""
    share = (
        "select coalesce(sum(rows_published) filter (where batch_id in (select batch_id from ops.batches_to_build)), 0)"
        " >= %s * coalesce(sum(rows_published), 0) from ops.batch join ops.batches_built using (batch_id)"
    )
    return bool(connection.execute(share, [MOSTLY]).fetchone()[0])  # type: ignore[index]


def _keeps_deleted(connection: psycopg.Connection[Any]) -> bool:
    """Whether sums may still hold what a retention took away in an earlier month: deriving all anew lets go of it."""
    query = (
        "select exists (select from ops.deletion join ops.build_batch using (batch_id)"
        " where verified_at < date_trunc('month', now()) and verified_at > coalesce((select max(opened_at) from ops.build"
        " where full_refresh and state = 'released'), '-infinity'))"
    )
    return bool(connection.execute(query).fetchone()[0])  # type: ignore[index]


def _seeds_sha256() -> str:
    return hashlib.sha256(b"".join((SEEDS / f"{seed}.csv").read_bytes() for seed in LASTING_SEEDS)).hexdigest()


def _seeds_changed(connection: psycopg.Connection[Any]) -> bool:
    """Whether persistent tables rest on a seed that has another content than the newest release was made with."""
    query = (
        "select coalesce((select seeds_sha256 from ops.build where state = 'released' order by build_no desc limit 1) <> %s,"
        " false)"
    )
    return bool(connection.execute(query, [_seeds_sha256()]).fetchone()[0])  # type: ignore[index]


def fail(connection: psycopg.Connection[Any], build_no: int, problem: Problem) -> None:
    """Give the build up: its batches wait for the next one, and nothing of it is released."""
    connection.execute(
        "update ops.build set state = 'failed', ended_at = clock_timestamp(), problem = %s"
        " where build_no = %s and state in ('open', 'built')",
        [Jsonb(problem.as_dict()), build_no],
    )


def run(step: str | None = None, *, force: bool = False, full_refresh: bool = False) -> dict[str, int]:
    """Run one step of the build under way, or all; the first step begins a build when published batches wait for one.

    `force` builds although nothing is new; `full_refresh` derives the persistent tables anew from all of `raw`.
    Returns build_no, batches taken in and nodes run; zero batches when there is nothing to do. Steps that are done are
    left alone. Raises PermanentFailure when a model or a test fails, TransientFailure when the database is away.
    """
    if step is not None and step not in steps():
        raise PermanentFailure(Problem(Code.BUILD_UNKNOWN_STEP, f"no step {step!r}; steps: {', '.join(steps())}"))
    first, session = steps()[0], Session()
    total = {"build_no": 0, "batches": 0, "nodes": 0}
    for name in [step] if step else steps():
        with lock(name) as connection:
            build = _begin(connection, force, full_refresh) if name == first else current(connection)
            if build is None:
                return total
            done = {"nodes": 0} if build.state == "built" else _step(connection, build, name, session)
        total |= {"build_no": build.build_no, "batches": build.batches, "nodes": total["nodes"] + done["nodes"]}
    return total


def _step(connection: psycopg.Connection[Any], build: Build, step: str, session: Session) -> dict[str, int]:
    states = dict(
        connection.execute("select step, state from ops.build_step where build_no = %s", [build.build_no]).fetchall()
    )
    if states.get(step) == "done":
        return {"nodes": 0}
    before = steps()[: steps().index(step)]
    beside = set(filter(_alongside, before)) if _alongside(step) else set()
    missing = [name for name in before if name not in beside and states.get(name) != "done"]
    if missing:
        raise PermanentFailure(
            Problem(Code.BUILD_ORDER, f"step {step} of build {build.build_no} comes after {', '.join(missing)}")
        )
    token = connection.execute(
        "insert into ops.build_step (build_no, step) values (%s, %s) on conflict (build_no, step) do update set"
        " state = 'running', token = build_step.token + 1, started_at = clock_timestamp(), ended_at = null"
        " returning token",
        [build.build_no, step],
    ).fetchone()[0]  # type: ignore[index]
    again = states.get(step) == "failed"
    if step in BEFORE:
        BEFORE[step](connection, f"{build.build_no}/{step}/{token}")
    results, error = session.invoke(build, step, token, again)
    failpoints.hit(f"build.after_{step}")
    _finish(connection, build, step, token, results, error)
    check(build, step, results, error)
    return {"nodes": len(results)}


def _finish(
    connection: psycopg.Connection[Any], build: Build, step: str, token: int, results: list[dict[str, Any]], error: str
) -> None:
    """Store what the nodes said and how the step ended, unless another builder has claimed it since."""
    good = not error and all(row["status"] in ("success", "pass", "warn", "no-op") for row in results)
    with connection.transaction():
        # Families that end at the same time: the later one has to see the earlier one as done.
        connection.execute("select from ops.build where build_no = %s for update", [build.build_no])
        changed = connection.execute(
            "update ops.build_step set state = %s, ended_at = clock_timestamp()"
            " where build_no = %s and step = %s and token = %s",
            ["done" if good else "failed", build.build_no, step, token],
        )
        if changed.rowcount != 1:
            raise TransientFailure(f"step {step} of build {build.build_no} was claimed by another worker")
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into ops.build_node"
                " (build_no, step, node, resource_type, status, seconds, rows, failures, message)"
                " values (%(build_no)s, %(step)s, %(node)s, %(resource_type)s, %(status)s, %(seconds)s, %(rows)s,"
                " %(failures)s, %(message)s) on conflict (build_no, step, node) do update set status = excluded.status,"
                " seconds = excluded.seconds, rows = excluded.rows, failures = excluded.failures,"
                " message = excluded.message, recorded_at = clock_timestamp()",
                [row | {"build_no": build.build_no, "step": step} for row in results],
            )
        connection.execute(
            "update ops.build set state = 'built', built_at = clock_timestamp() where build_no = %s and state = 'open'"
            " and (select count(*) from ops.build_step where build_no = %s and state = 'done') = %s",
            [build.build_no, build.build_no, len(steps())],
        )


def check(build: Build, step: str, results: list[dict[str, Any]], error: str) -> None:
    """Raise when a step failed: TransientFailure when the database was away, PermanentFailure when a model or test broke."""
    broken = [row for row in results if row["status"] in ("error", "fail", "runtime error")]
    if not error and not broken:
        return
    texts = [error, *(row["message"] or "" for row in broken)]
    what = "; ".join(f"{row['node'].split('.')[2]}: {row['message'] or row['status']}" for row in broken) or error
    message = f"step {step} of build {build.build_no} failed: {what}"
    if any(sign in text for text in texts for sign in AWAY):
        raise TransientFailure(message)
    raise PermanentFailure(Problem(Code.BUILD_FAILED, message[:2000]))


def _safe(message: str | None) -> str | None:
    """A database's message in one line, without the part that quotes rows."""
    if not message:
        return None
    lines = []
    for line in message.splitlines():
        if line.strip().startswith(("DETAIL:", "CONTEXT:", "LINE ", "compiled code at")):
            break
        lines.append(line.strip())
    return " ".join(lines)


class Session:
    """dbt in this process. The project is read once for all steps that one call runs.

    With `schema` the marts go there instead of `build`, and the session looks back as ops.as_known says of its build.
    """

    def __init__(self, schema: str | None = None) -> None:
        self._manifest: Any = None
        self._schema = schema
        self._folder = settings().state / ("dbt" if schema is None else "dbt_as_known")

    def invoke(self, build: Build, step: str, token: int, again: bool) -> tuple[list[dict[str, Any]], str]:
        """Run a step, or what failed of it when that is known; the node results and, when dbt itself failed, why."""
        from dbt.cli.main import dbtRunner

        target = self._folder / step
        marker, stored = target / "build_no", target / "run_results.json"
        retry = again and stored.exists() and marker.exists() and marker.read_text() == str(build.build_no)
        target.mkdir(parents=True, exist_ok=True)
        marker.write_text(str(build.build_no))
        common = self._arguments(target)
        if retry:
            # dbt reads the old results from a folder of their own while it writes the new ones.
            old = target / "before"
            old.mkdir(exist_ok=True)
            stored.replace(old / stored.name)
            arguments = ["retry", "--state", str(old), *common]
        else:
            stored.unlink(missing_ok=True)
            arguments = ["build", "--select", *_selection(step), *common]
            arguments += ["--indirect-selection", "buildable", "--exclude-resource-type", "unit_test"]
            arguments += ["--full-refresh"] if build.full_refresh else []
        if self._schema is None:
            opened = environment(f"{build.build_no}/{step}/{token}")
        else:
            opened = environment("", self._schema, build.build_no)
        with opened:
            if self._manifest is None and not retry:
                parsed = dbtRunner().invoke(["parse", *common])
                if not parsed.success:
                    return [], _safe(str(parsed.exception)) or "the dbt project could not be read"
                self._manifest = parsed.result
                self._keep_parsed(target)
            outcome = dbtRunner(manifest=None if retry else self._manifest).invoke(arguments)
        results = [_node_result(item) for item in getattr(outcome.result, "results", None) or ()]
        error = (_safe(str(outcome.exception)) or "dbt failed") if outcome.exception else ""
        return results, error

    def _arguments(self, target: Path) -> list[str]:
        parsed = self._folder / "partial_parse.msgpack"
        known = ["--partial-parse-file-path", str(parsed)] if parsed.exists() else []
        return [
            *known, "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target-path", str(target),
            "--log-path", str(self._folder / "logs"), "--log-level", "warn", "--log-level-file", "info", "--quiet",
            "--no-use-colors", "--no-send-anonymous-usage-stats", "--no-version-check",
        ]  # fmt: skip

    def _keep_parsed(self, target: Path) -> None:
        """Keep the parsed project for the steps of other processes; they differ in their target folder only."""
        parsed = target / "partial_parse.msgpack"
        if parsed.exists():
            fresh = self._folder / f"partial_parse.{os.getpid()}"
            shutil.copyfile(parsed, fresh)
            fresh.replace(self._folder / "partial_parse.msgpack")


@contextmanager
def environment(claim: str, schema: str = "build", as_known: int | None = None) -> Iterator[None]:
    """The warehouse's address for profiles.yml, and for every session opened the claim, or the build it looks back as."""
    parts = conninfo_to_dict(settings().dsn("builder"))
    # profiles.yml knows the usual parts; libpq takes the others, such as certificates, from variables of its own.
    names = {item.keyword.decode(): item.envvar.decode() for item in Conninfo.get_defaults() if item.envvar}
    values = {names[part]: value for part, value in parts.items() if part in names and part != "password"}
    values |= {
        "SAMPAN_DBT_HOST": parts.get("host", "localhost"),
        "SAMPAN_DBT_PORT": parts.get("port", "5432"),
        "SAMPAN_DBT_USER": parts["user"],
        "SAMPAN_DBT_DATABASE": parts["dbname"],
        "SAMPAN_DBT_SSLMODE": parts.get("sslmode", "prefer"),
        "DBT_ENV_SECRET_SAMPAN_PASSWORD": parts.get("password", ""),
        "SAMPAN_DBT_SCHEMA": schema,
        "PGOPTIONS": f"{parts.get('options', '')} -c sampan.claim={claim} -c sampan.as_known={as_known or ''}"
        " -c timezone=Asia/Hong_Kong",
        "DO_NOT_TRACK": "1",
    }
    before = {key: os.environ.get(key) for key in values}
    os.environ.update({key: str(value) for key, value in values.items()})
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _node_result(result: Any) -> dict[str, Any]:
    response = result.adapter_response or {}
    rows = response.get("rows_affected")
    return {
        "node": result.node.unique_id,
        "resource_type": str(result.node.resource_type),
        "status": str(result.status),
        "seconds": float(result.execution_time),
        "rows": rows if isinstance(rows, int) and rows >= 0 else None,
        "failures": result.failures,
        "message": _safe(result.message),
    }
