"""dbt, behind one seam: the steps of the project, what one run of dbt does for a step, and what came of it.

Nothing outside this package knows dbt. Inside it, `in_process` calls dbt's Python API and `command_line` its command; which
one is used says SAMPAN_DBT (ADR 0048).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from sampan.engine import engine
from sampan.engine.postgres import BUILD, Mart
from sampan.marts.dbt import command_line, in_process
from sampan.marts.dbt.results import DONE, NodeResult, StepResult
from sampan.settings import HOME, read_yaml, settings

__all__ = ["BUILD", "DONE", "MARTS", "PROJECT", "SEEDS", "SUMMARY", "DbtRunner", "NodeResult", "StepResult"]

PROJECT = HOME / "dbt_project"
SEEDS = PROJECT / "seeds"
MARTS = "marts"
# The step of the marts that are made of marts of several families.
SUMMARY = "summary"


@cache
def step_names() -> tuple[str, ...]:
    """The steps in order: the folders that dbt_project.yml configures, with each family of marts as a step."""
    project = read_yaml(PROJECT / "dbt_project.yml")
    folders = [name for name in project["models"]["sampan"] if not name.startswith("+")]
    families = sorted(path.name for path in (PROJECT / "models" / MARTS).iterdir() if path.is_dir())
    of_families = tuple(f"{MARTS}__{family}" for family in families)
    at = folders.index(MARTS)
    return (*folders[:at], *of_families, *folders[at + 1 :])


class DbtRunner:
    """Runs steps.

    With `schema` and `as_known` (a build's number) the marts go into that schema, and the sessions look back as
    ops.as_known says of that build.
    """

    def __init__(self, schema: str = BUILD, as_known: int | None = None) -> None:
        self._as_known = as_known
        self._folder = settings().state / ("dbt" if as_known is None else "dbt_as_known")
        self._parsed = settings().state / "dbt" / f"{engine(as_known).name}.msgpack"
        self._dbt = _dbt(schema, as_known)

    def run(
        self, step: str, build_no: int, claim: str = "", *, full_refresh: bool = False, nodes: Collection[str] = ()
    ) -> StepResult:
        """Run a step, or only some nodes of it, given by their unique ids.

        `claim` is the build's hold on the step (`build_no/step/token`), which the models check.
        """
        target = self._folder / step
        target.mkdir(parents=True, exist_ok=True)
        with environment(claim, self._as_known):
            options = self._options(target)
            command = ["build", "--select", *self._selection(step, nodes, options)]
            command += ["--indirect-selection", "buildable", "--exclude-resource-type", "unit_test"]
            # The database checks relationships: see the macro add_foreign_keys.
            command += ["--exclude", "test_name:relationships", "--use-fast-test-edges"]
            command += ["--full-refresh"] if full_refresh else []
            result = self._dbt.run(command, options)
        self._keep_parsed(target)
        return result

    def project(self) -> Mapping[str, Any]:
        """The parsed project, in the form of dbt's manifest.json: nodes and sources by unique id, and what they depend on."""
        target = self._folder / "project"
        target.mkdir(parents=True, exist_ok=True)
        with environment(as_known=self._as_known):
            return self._dbt.project(self._options(target))

    def feeds_behind(self, result: StepResult) -> set[str]:
        """The feeds that the broken nodes of a result are made from; none when no node is known to be broken."""
        feeds, seen = set(), set()
        waiting = [node.node for node in result.nodes if node.is_broken]
        project = self.project() if waiting else {}
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            source = project["sources"].get(name)
            if source is None:
                waiting += project["nodes"].get(name, {}).get("depends_on", {}).get("nodes", [])
            elif source["source_name"] == "raw":
                feeds.add(source["name"])
        return feeds

    def marts(self, result: StepResult) -> list[Mart]:
        """The marts that a step made, in the order in which it did, and what the gate reads beside them."""
        nodes = self.project()["nodes"]
        made = [nodes[node.node] for node in result.nodes if node.resource_type in ("model", "seed") and node.is_done]
        return [
            _mart(node, nodes) for node in made if node["schema"] == BUILD or node["config"]["meta"].get("read_by_gate")
        ]

    def _selection(self, step: str, nodes: Collection[str], options: Sequence[str]) -> list[str]:
        """What dbt selects: the nodes by name, or the whole step without nodes or when the project lacks one by now."""
        known = self._dbt.project(options)["nodes"] if nodes else {}
        if nodes and all(node in known for node in nodes):
            return [known[node]["name"] for node in nodes]
        folder = f"fqn:sampan.{step.replace('__', '.')}"
        return ["resource_type:seed", folder] if step == step_names()[0] else [folder]

    def _options(self, target: Path) -> list[str]:
        known = ["--partial-parse-file-path", str(self._parsed)] if self._parsed.exists() else []
        return [
            *known, "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target-path", str(target),
            "--log-path", str(self._folder / "logs"), "--log-level", "warn", "--log-level-file", "info", "--quiet",
            # A tenth of a step's time would go into descriptions of the project that no one reads.
            "--no-write-json",
            "--no-use-colors", "--no-send-anonymous-usage-stats", "--no-version-check",
        ]  # fmt: skip

    def _keep_parsed(self, target: Path) -> None:
        """Keep the parsed project for the steps of other processes; they differ in their target folder only."""
        parsed = target / "partial_parse.msgpack"
        if self._as_known is None and _written(parsed) > _written(self._parsed):
            self._parsed.parent.mkdir(exist_ok=True)
            fresh = self._parsed.with_suffix(f".{os.getpid()}")
            shutil.copyfile(parsed, fresh)
            fresh.replace(self._parsed)


def command(arguments: Sequence[str]) -> bool:
    """Run dbt's own command on the project, connected as the builder; whether it succeeded.

    Models refuse to be built so: each belongs to a step of a build.
    """
    folder = settings().state / "dbt_by_hand"
    places = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target-path", str(folder)]
    whole = [*arguments, *places, "--log-path", str(folder), "--no-version-check"]
    executable = engine().dbt or settings().get("SAMPAN_DBT", "")
    with environment(), engine().alone():
        return command_line.command(executable, whole) if executable else in_process.command(whole)


def _mart(node: Mapping[str, Any], nodes: Mapping[str, Any]) -> Mart:
    """A mart by its node, with what macros of PostgreSQL would have given it."""
    meta = node["config"]["meta"]
    references = [
        (other["column_name"], nodes[dimension]["alias"], other["test_metadata"]["kwargs"]["field"])
        for other in nodes.values()
        if other["resource_type"] == "test"
        and other["attached_node"] == node["unique_id"]
        and (other["test_metadata"] or {}).get("name") == "relationships"
        for dimension in other["depends_on"]["nodes"]
        if dimension != node["unique_id"]
    ]
    hooks = " ".join(hook["sql"] for hook in node["config"]["post-hook"])
    is_read_under_consent = meta.get("read_under_consent", False)
    return Mart(
        node=node["unique_id"],
        schema=node["schema"],
        name=node["alias"],
        description=node["description"],
        columns=[
            (
                column["name"],
                column["data_type"],
                all(constraint["type"] != "not_null" for constraint in column["constraints"]),
                column["description"],
            )
            for column in node["columns"].values()
            if column["data_type"]
        ],
        primary_key=meta.get("primary_key", ()),
        foreign_keys=references if "add_foreign_keys" in hooks and not is_read_under_consent else (),
        indexes=[index["columns"] for index in node["config"].get("indexes") or ()],
        is_read_under_consent=is_read_under_consent,
    )


def _written(file: Path) -> float:
    return file.stat().st_mtime if file.exists() else 0.0


def _dbt(schema: str, as_known: int | None) -> command_line.CommandLine | in_process.InProcess:
    of = engine(as_known)
    if of.dbt:
        return command_line.CommandLine(of.run_dbt, schema)
    if executable := settings().get("SAMPAN_DBT", ""):
        return command_line.CommandLine(command_line.in_a_process(executable), schema)
    return in_process.InProcess(BUILD, schema)


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
        "SAMPAN_DBT_TARGET": engine(as_known).name,
        **engine(as_known).environment(),
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
