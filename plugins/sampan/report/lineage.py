"""From file to mart column to page: what a release was made from, as OpenLineage events.

Tables and columns are read out of the SQL that dbt compiled for the newest build. Names stay the same from release to
release: a mart is `marts.<name>`, whichever schema holds its rows. See ADR 0047.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import column_lineage_dataset, output_statistics_output_dataset, schema_dataset
from openlineage.client.transport.file import FileConfig, FileTransport
from psycopg.conninfo import conninfo_to_dict

from sampan import progress
from sampan.contracts.registry import all_contracts
from sampan.database import connect
from sampan.engine import engine
from sampan.errors import Code, PermanentFailure, Problem, TransientFailure
from sampan.marts import release
from sampan.marts.dbt import BUILD
from sampan.report.questions import all_questions
from sampan.settings import settings
from sampan.text import did_you_mean

MARTS, PRODUCER = "marts", "https://github.com/OpenLineage/OpenLineage/tree/main/client/python"
# Where the columns of tables are read: what models read and write. A release's tables are those that its build had.
SCHEMAS = ("raw", "ops", "quarantine")
WRITTEN = (BUILD, "staging", "intermediate")
# Seconds that a transport which sends in the background may take to end.
PATIENCE = 60.0
# Answers of a receiver that is busy, among those that refuse.
TRY_AGAIN = (408, 425, 429)
Columns = dict[str, Any]
# A column of a table.
Place = tuple[str, str]


@dataclass(frozen=True)
class Model:
    """A model: its table as `schema.name`, the tables that it reads, and by column the columns that its values come from."""

    table: str
    reads: frozenset[str]
    columns: dict[str, frozenset[Place]] = field(default_factory=dict)


def compiled(columns: Columns) -> dict[str, Path]:
    """The tables of the newest build's models with what dbt compiled. `columns` has schema, table, column, type.

    Raises PermanentFailure when no build was made with this state folder.
    """
    files = sorted((settings().state / "dbt").glob("*/compiled/sampan/models/**/*.sql"))
    # A test of data is compiled into a folder with the name of the file that asks for it.
    found = [path for path in files if not path.parent.name.endswith(".yml")]
    if not found:
        message = "no build was made with this state folder; run `sampan build` first"
        raise PermanentFailure(Problem(Code.BUILD_FAILED, message, str(settings().state / "dbt")))
    return {_table_of(path.stem, columns): path for path in found}


def _table_of(name: str, columns: Columns) -> str:
    return _stable(next((schema for schema in WRITTEN if name in columns.get(schema, {})), WRITTEN[0]), name)


def model_of(table: str, path: Path, columns: Columns) -> Model:
    """A model by its compiled SQL. The columns of one whose SQL cannot be resolved are left out."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.lineage import lineage
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    dialect = engine().name
    query = sqlglot.parse_one(path.read_text(encoding="utf-8"), dialect=dialect)
    reads = frozenset(_named(table) for table in query.find_all(exp.Table) if table.db)
    made = Model(table, reads)
    try:
        qualified = qualify(query, dialect=dialect, schema=columns, validate_qualify_columns=False)
        scope = build_scope(qualified)
        nodes = lineage(None, qualified, schema=columns, scope=scope, dialect=dialect, copy=False, trim_selects=False)
        for name, node in nodes.items():
            made.columns[name] = frozenset(
                (_named(leaf.source), leaf.name.split(".")[-1].strip('"'))
                for leaf in node.walk()
                # What a function makes has no table.
                if not leaf.downstream and isinstance(leaf.source, exp.Table) and leaf.source.db
            )
    except sqlglot.errors.SqlglotError:
        made.columns.clear()
    return made


def sources_of(place: Place, columns: Columns) -> dict[Place, frozenset[Place]]:
    """A column and all that its values come from, each with the columns that it is made of; those of raw with none.

    Raises PermanentFailure when there is no such column.
    """
    files = compiled(columns)
    known: dict[str, Model] = {}
    found: dict[Place, frozenset[Place]] = {}
    waiting = [place]
    while waiting:
        table, column = waiting.pop()
        if (table, column) in found:
            continue
        if table in files and table not in known:
            known[table] = model_of(table, files[table], columns)
        of_table = known[table].columns if table in known else {}
        if not found and column not in of_table:
            names = of_table or [name for name in files if name.startswith(f"{MARTS}.")]
            message = f"no column {'.'.join(place)}{did_you_mean(column if of_table else table, names)}"
            raise PermanentFailure(Problem(Code.REPORT_COLUMN, message))
        found[table, column] = of_table.get(column, frozenset())
        waiting += found[table, column]
    return found


def trace(release_no: int, column: str) -> dict[Place, frozenset[Place]]:
    """What a column of a mart, as `mart.column`, is made from. Raises PermanentFailure when there is none of that name."""
    mart, _, name = column.removeprefix(f"{MARTS}.").partition(".")
    return sources_of((f"{MARTS}.{mart}", name), columns_of_release(release_no))


def columns_of_release(release_no: int) -> Columns:
    """By schema and table the columns of what models read, with their types; those of the release as the build's."""
    query = """
        select table_schema, table_name, column_name, data_type
        from information_schema.columns
        where table_schema = any(%s)
    """
    schemas = release.schemas_of(release_no)
    found: dict[str, dict[str, dict[str, str]]] = {}
    with connect("builder") as connection:
        rows = connection.execute(query, [[*SCHEMAS, *schemas]]).fetchall() + engine().columns(connection)
        for schema, table, column, kind in rows:
            found.setdefault(BUILD if schema in schemas else schema, {}).setdefault(table, {})[column] = kind
    return found


def events(release_no: int) -> list[RunEvent]:
    """What made a release: an event for each feed that it has rows of, each model, and each page. The same each time.

    Raises PermanentFailure when the release is not kept.
    """
    shown = release.show_kept(release_no)
    columns, warehouse = columns_of_release(release_no), _warehouse()
    at = shown["released_at"].isoformat()

    def event(job: str, inputs: Iterable[InputDataset], output: OutputDataset) -> RunEvent:
        run = Run(str(uuid5(NAMESPACE_URL, f"{warehouse.namespace}/{warehouse.database}/{release_no}/{job}")))
        whole = Job("sampan", job)
        return RunEvent(
            eventTime=at,
            producer=PRODUCER,
            run=run,
            job=whole,
            eventType=RunState.COMPLETE,
            inputs=[*inputs],
            outputs=[output],
        )

    found = [
        event(f"ingest.{feed}", [_landed(feed)], warehouse.output("raw", feed, columns, rows=rows))
        for feed, rows in _rows_by_feed(release_no)
    ]
    for table, path in progress.each([*compiled(columns).items()], lambda item: item[0]):
        model = model_of(table, path, columns)
        schema, name = model.table.split(".")
        output = warehouse.output(schema, name, columns, sources=model.columns)
        found.append(event(f"build.{name}", [warehouse.input(table) for table in sorted(model.reads)], output))
    for question in all_questions():
        page = OutputDataset("sampan:report", question.name)
        found.append(
            event(f"report.{question.name}", [warehouse.input(f"{MARTS}.{mart}") for mart in question.marts], page)
        )
    return found


def send(release_no: int) -> tuple[int, Path | None]:
    """Send the events of a release to where OpenLineage's own settings say, or else into a file of the state folder.

    Returns how many, and the file. An event that is sent again is the same run of the same job. Raises TransientFailure when
    they could not be sent, and PermanentFailure when the receiver refuses them.
    """
    made, file = events(release_no), None
    if _is_configured():
        client = OpenLineageClient()
    else:
        file = settings().state / "lineage" / f"release_{release_no}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        client = OpenLineageClient(transport=FileTransport(FileConfig(str(file), append=True)))
    try:
        for event in progress.each(made, lambda event: str(event.job.name)):
            client.emit(event)
        # A transport that sends in the background has to come to its end.
        client.close(PATIENCE)
    except OSError as error:
        raise _failure(error) from error
    return len(made), file


def _failure(error: OSError) -> PermanentFailure | TransientFailure:
    """A failure to send: refused for good, or to be tried again."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if 400 <= status < 500 and status not in TRY_AGAIN:
        message = f"the receiver of OpenLineage events answered {status}; nothing after that was sent"
        return PermanentFailure(Problem(Code.LINEAGE_REFUSED, message))
    what = f"answered {status}" if status else f"could not be reached ({type(error).__name__})"
    return TransientFailure(f"the receiver of OpenLineage events {what}; run `sampan lineage send` again")


# --- names ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Warehouse:
    """The warehouse in the names of OpenLineage: its namespace, and the database before each table."""

    namespace: str
    database: str

    def input(self, table: str) -> InputDataset:
        return InputDataset(self.namespace, f"{self.database}.{table}")

    def output(
        self,
        schema: str,
        name: str,
        columns: Columns,
        *,
        sources: Mapping[str, Iterable[Place]] | None = None,
        rows: int | None = None,
    ) -> OutputDataset:
        """A table with its columns, where their values come from, and how many rows were added."""
        types = columns.get(BUILD if schema == MARTS else schema, {}).get(name, {})
        of_schema = [schema_dataset.SchemaDatasetFacetFields(column, kind) for column, kind in types.items()]
        facets: dict[str, Any] = {"schema": schema_dataset.SchemaDatasetFacet(of_schema)}
        if sources:
            fields = {column: self._fields(places) for column, places in sources.items() if places}
            facets["columnLineage"] = column_lineage_dataset.ColumnLineageDatasetFacet(fields)
        counted = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows)
        output_facets: dict[str, Any] = {"outputStatistics": counted} if rows is not None else {}
        return OutputDataset(self.namespace, f"{self.database}.{schema}.{name}", output_facets, facets=facets)

    def _fields(self, places: Iterable[Place]) -> column_lineage_dataset.Fields:
        inputs = [
            column_lineage_dataset.InputField(self.namespace, f"{self.database}.{table}", column)
            for table, column in sorted(places)
        ]
        return column_lineage_dataset.Fields(inputs)


def _warehouse() -> _Warehouse:
    parts = conninfo_to_dict(settings().dsn("builder"))
    return _Warehouse(f"postgres://{parts.get('host')}:{parts.get('port') or 5432}", str(parts["dbname"]))


def _landed(feed: str) -> InputDataset:
    contract = all_contracts()[feed]
    return InputDataset(f"s3://{settings().landing_bucket}", f"{contract.partner}/{feed}")


def _named(table: Any) -> str:
    return _stable(table.db, table.name)


def _stable(schema: str, name: str) -> str:
    return f"{MARTS}.{name}" if schema == BUILD else f"{schema}.{name}"


def _rows_by_feed(release_no: int) -> Iterator[tuple[str, int]]:
    query = """
        select feed, sum(rows_published)::bigint
        from ops.release_batch
        where release_no = %s
        group by feed
        order by feed
    """
    with connect("builder") as connection:
        yield from connection.execute(query, [release_no]).fetchall()


def _is_configured() -> bool:
    return any(name.startswith("OPENLINEAGE_") for name in os.environ)
