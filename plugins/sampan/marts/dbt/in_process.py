"""dbt's Python API: runs dbt in this process, without what is not work (`lean`)."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sampan.database import is_transient_state
from sampan.errors import Code, PermanentFailure, Problem
from sampan.marts.dbt import lean
from sampan.marts.dbt.results import NodeResult, StepResult, without_rows


class InProcess:
    """Parses the project once for all steps that it runs. The relations of a look-back are in `schema` and beside it."""

    def __init__(self, build: str, schema: str) -> None:
        self._build = build
        self._schema = schema
        self._manifest: Any = None
        self._project: dict[str, Any] = {}
        self._is_transient = False

    def run(self, command: Sequence[str], options: Sequence[str]) -> StepResult:
        """Run a command of dbt (`build` and what it selects) with its options."""
        from dbt.cli.main import dbtRunner

        lean.install()
        self._is_transient = False
        with _rare_garbage():
            if problem := self._parse(options):
                return StepResult(error=problem)
            outcome = dbtRunner(manifest=self._manifest, callbacks=[self._note_error]).invoke([*command, *options])
        _close_file()
        return StepResult(
            tuple(map(_node_result, getattr(outcome.result, "results", None) or ())),
            (without_rows(str(outcome.exception)) or "dbt failed") if outcome.exception else "",
            self._is_transient or _is_transient(outcome.exception),
        )

    def project(self, options: Sequence[str]) -> Mapping[str, Any]:
        """The parsed project, in the form of manifest.json. Raises PermanentFailure when dbt cannot read it."""
        if problem := self._parse(options):
            raise PermanentFailure(Problem(Code.BUILD_FAILED, problem))
        # To write it out takes a second.
        self._project = self._project or self._manifest.writable_manifest().to_dict()
        return self._project

    def _parse(self, options: Sequence[str]) -> str | None:
        """Parse the project unless it is. Returns why dbt could not."""
        from dbt.cli.main import dbtRunner

        if self._manifest is None:
            parsed = dbtRunner().invoke(["parse", *options])
            if not parsed.success:
                return without_rows(str(parsed.exception)) or "the dbt project could not be read"
            self._manifest = parsed.result
            if self._schema != self._build:
                self._move()
        return None

    def _move(self) -> None:
        """Let the nodes of the parsed project have their relations in other schemas: the marts in the look-back's, what they
        are made from in schemas named after it. To parse the project in its name takes as long as to build it."""
        from dbt.adapters.postgres.relation import PostgresRelation

        for node in self._manifest.nodes.values():
            node.schema = self._schema if node.schema == self._build else f"{self._schema}_{node.schema}"
            if node.relation_name:
                node.relation_name = PostgresRelation.create(node.database, node.schema, node.alias).render()
        self._manifest.build_flat_graph()

    def _note_error(self, event: Any) -> None:
        """Keep what the result of a node lacks: the SQLSTATE of its error, which dbt is handling when it fires the event."""
        if event.info.name in lean.NODE_ERRORS and _is_transient(sys.exc_info()[1]):
            self._is_transient = True


def command(arguments: Sequence[str]) -> bool:
    """Run any command of dbt; whether it succeeded."""
    from dbt.cli.main import dbtRunner

    return dbtRunner().invoke([*arguments]).success


def _close_file() -> None:
    """Let other processes have the file of DuckDB, which dbt keeps open until this one ends."""
    manager = sys.modules.get("dbt.adapters.duckdb.connections")
    if manager and (environment := manager.DuckDBConnectionManager._ENV):
        environment.close()
        manager.DuckDBConnectionManager.close_all_connections()


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
    return NodeResult.of(
        result.node.unique_id,
        str(result.status),
        result.execution_time,
        result.adapter_response,
        result.failures,
        result.message,
    )


def _is_transient(error: BaseException | None) -> bool:
    """Whether an error comes from a database error after which trying again may help."""
    import duckdb
    import psycopg2  # type: ignore[import-untyped]

    while error is not None:
        if isinstance(error, duckdb.IOException):
            # No disk left, or another process has the file open.
            return True
        if isinstance(error, psycopg2.Error):
            state = error.pgcode
            if state is None:
                # The server did not answer: psycopg2 has no SQLSTATE of that.
                return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
            return is_transient_state(state)
        error = error.__cause__ or error.__context__
    return False
