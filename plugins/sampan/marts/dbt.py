"""dbt, which this module and `lean_dbt` know: the steps of the project, one run in this process, and what came of it."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from sampan.database import is_transient_state
from sampan.marts import lean_dbt
from sampan.settings import HOME, settings

PROJECT = HOME / "dbt_project"
SEEDS = PROJECT / "seeds"
MARTS = "marts"
# The step of the marts that are made of marts of several families.
SUMMARY = "summary"
# Statuses of a node that does not have to run again.
DONE = ("success", "pass", "warn", "no-op")
# Schema of the marts of the current build, in whose name the project is parsed.
BUILD = "build"


@dataclass(frozen=True)
class NodeResult:
    """What came of one node. `rows` and `failures` are None where they do not apply; `message` quotes no row."""

    node: str
    resource_type: str
    status: str
    seconds: float
    rows: int | None
    failures: int | None
    message: str | None

    @property
    def is_broken(self) -> bool:
        """Whether the node failed, rather than being skipped because another one did."""
        return self.status in ("error", "fail", "runtime error")

    @property
    def is_done(self) -> bool:
        """Whether the node does not have to run again."""
        return self.status in DONE


@dataclass(frozen=True)
class StepResult:
    """What came of a step: its nodes, why dbt itself failed (if it did), and whether trying again may help."""

    nodes: tuple[NodeResult, ...] = ()
    error: str = ""
    is_transient: bool = False

    @property
    def is_done(self) -> bool:
        """Whether dbt and every node succeeded."""
        return not self.error and all(node.is_done for node in self.nodes)

    @property
    def problem(self) -> str:
        """What failed, with each broken node by its name; empty when nothing did."""
        broken = (node for node in self.nodes if node.is_broken)
        return "; ".join(f"{node.node.split('.')[2]}: {node.message or node.status}" for node in broken) or self.error


@cache
def step_names() -> tuple[str, ...]:
    """The steps in order: the folders that dbt_project.yml configures, with each family of marts as a step."""
    project = yaml.safe_load((PROJECT / "dbt_project.yml").read_text(encoding="utf-8"))
    folders = [name for name in project["models"]["sampan"] if not name.startswith("+")]
    families = sorted(path.name for path in (PROJECT / "models" / MARTS).iterdir() if path.is_dir())
    of_families = tuple(f"{MARTS}__{family}" for family in families)
    at = folders.index(MARTS)
    return (*folders[:at], *of_families, *folders[at + 1 :])


class DbtRunner:
    """Runs steps in this process. The project is parsed once for all steps that one runner runs.

    With `schema` and `as_known` (a build's number) the marts go into that schema, and the sessions look back as
    ops.as_known says of that build.
    """

    def __init__(self, schema: str = BUILD, as_known: int | None = None) -> None:
        self._schema = schema
        self._as_known = as_known
        self._folder = settings().state / ("dbt" if as_known is None else "dbt_as_known")
        self._parsed = settings().state / "dbt" / "partial_parse.msgpack"
        self._manifest: Any = None
        self._is_transient = False

    def run(
        self, step: str, build_no: int, claim: str = "", *, full_refresh: bool = False, nodes: Collection[str] = ()
    ) -> StepResult:
        """Run a step, or only some nodes of it, given by their unique ids.

        `claim` is the build's hold on the step (`build_no/step/token`), which the models check.
        """
        from dbt.cli.main import dbtRunner

        lean_dbt.install()
        target = self._folder / step
        target.mkdir(parents=True, exist_ok=True)
        common = self._arguments(target)
        self._is_transient = False
        with environment(claim, self._as_known), _rare_garbage():
            if self._manifest is None:
                parsed = dbtRunner().invoke(["parse", *common])
                if not parsed.success:
                    return StepResult(error=_without_rows(str(parsed.exception)) or "the dbt project could not be read")
                self._manifest = parsed.result
                self._keep_parsed(target)
                if self._schema != BUILD:
                    _move(self._manifest, self._schema)
            arguments = ["build", "--select", *self._selection(step, nodes), *common]
            arguments += ["--indirect-selection", "buildable", "--exclude-resource-type", "unit_test"]
            # The database checks relationships: see the macro add_foreign_keys.
            arguments += ["--exclude", "test_name:relationships"]
            arguments += ["--full-refresh"] if full_refresh else []
            outcome = dbtRunner(manifest=self._manifest, callbacks=[self._note_error]).invoke(arguments)
        return StepResult(
            tuple(map(_node_result, getattr(outcome.result, "results", None) or ())),
            (_without_rows(str(outcome.exception)) or "dbt failed") if outcome.exception else "",
            self._is_transient or _is_transient(outcome.exception),
        )

    def feeds_behind(self, result: StepResult) -> set[str]:
        """The feeds that the broken nodes of a result are made from; none when no node is known to be broken."""
        feeds, seen = set(), set()
        waiting = [node.node for node in result.nodes if node.is_broken] if self._manifest else []
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            source = self._manifest.sources.get(name)
            if source is None:
                node = self._manifest.nodes.get(name)
                waiting += node.depends_on.nodes if node else []
            elif source.source_name == "raw":
                feeds.add(source.name)
        return feeds

    def _selection(self, step: str, nodes: Collection[str]) -> list[str]:
        """What dbt selects: the nodes by name, or the whole step without nodes or when the project lacks one by now."""
        if nodes and all(node in self._manifest.nodes for node in nodes):
            return [self._manifest.nodes[node].name for node in nodes]
        folder = f"fqn:sampan.{step.replace('__', '.')}"
        return ["resource_type:seed", folder] if step == step_names()[0] else [folder]

    def _note_error(self, event: Any) -> None:
        """Keep what the result of a node lacks: the SQLSTATE of its error, which dbt is handling when it fires the event."""
        if event.info.name in lean_dbt.NODE_ERRORS and _is_transient(sys.exc_info()[1]):
            self._is_transient = True

    def _arguments(self, target: Path) -> list[str]:
        known = ["--partial-parse-file-path", str(self._parsed)] if self._parsed.exists() else []
        return [
            *known, "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target-path", str(target),
            "--log-path", str(self._folder / "logs"), "--log-level", "warn", "--log-level-file", "info", "--quiet",
            # A tenth of a step's time would go into descriptions of the project that no one reads.
            "--no-write-json", "--use-fast-test-edges",
            "--no-use-colors", "--no-send-anonymous-usage-stats", "--no-version-check",
        ]  # fmt: skip

    def _keep_parsed(self, target: Path) -> None:
        """Keep the parsed project for the steps of other processes; they differ in their target folder only."""
        parsed = target / "partial_parse.msgpack"
        if parsed.exists():
            self._parsed.parent.mkdir(exist_ok=True)
            fresh = self._parsed.with_suffix(f".{os.getpid()}")
            shutil.copyfile(parsed, fresh)
            fresh.replace(self._parsed)


def command(arguments: Sequence[str]) -> bool:
    """Run dbt's own command on the project, connected as the builder; whether it succeeded.

    Models refuse to be built so: each belongs to a step of a build.
    """
    from dbt.cli.main import dbtRunner

    folder = settings().state / "dbt_by_hand"
    places = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target-path", str(folder)]
    with environment():
        return dbtRunner().invoke([*arguments, *places, "--log-path", str(folder), "--no-version-check"]).success


def _move(manifest: Any, schema: str) -> None:
    """Let the nodes of a parsed project have their relations in other schemas: the marts in `schema`, what they are made
    from in schemas named after it. To parse the project in another schema's name takes as long as to build it."""
    from dbt.adapters.postgres.relation import PostgresRelation

    for node in manifest.nodes.values():
        node.schema = schema if node.schema == BUILD else f"{schema}_{node.schema}"
        if node.relation_name:
            node.relation_name = PostgresRelation.create(node.database, node.schema, node.alias).render()
    manifest.build_flat_graph()


@contextmanager
def _rare_garbage() -> Iterator[None]:
    """Look for garbage seldom: dbt keeps most of what it makes, and a tenth of its time would go into looking through it."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _node_result(result: Any) -> NodeResult:
    rows = (result.adapter_response or {}).get("rows_affected")
    return NodeResult(
        node=result.node.unique_id,
        resource_type=str(result.node.resource_type),
        status=str(result.status),
        seconds=float(result.execution_time),
        rows=rows if isinstance(rows, int) and rows >= 0 else None,
        failures=result.failures,
        message=_without_rows(result.message),
    )


def _without_rows(message: str | None) -> str | None:
    """A database's message in one line, without the part that quotes rows."""
    if not message:
        return None
    lines = []
    for line in message.splitlines():
        if line.strip().startswith(("DETAIL:", "CONTEXT:", "LINE ", "compiled code at")):
            break
        lines.append(line.strip())
    return " ".join(lines)


def _is_transient(error: BaseException | None) -> bool:
    """Whether an error comes from a database error after which trying again may help."""
    import psycopg2  # type: ignore[import-untyped]

    while error is not None:
        if isinstance(error, psycopg2.Error):
            state = error.pgcode
            if state is None:
                # The server did not answer: psycopg2 has no SQLSTATE of that.
                return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
            return is_transient_state(state)
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def environment(claim: str = "", as_known: int | None = None) -> Iterator[None]:
    """Environment variables for profiles.yml and libpq: the warehouse's address and, for every session, the claim or the
    build that it looks back as."""
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
