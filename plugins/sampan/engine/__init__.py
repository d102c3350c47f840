"""The engine that builds: where dbt's models are computed, and how the Python of a build reads them. See ADR 0049.

Gate, release and readers are in PostgreSQL whichever engine builds: SAMPAN_BUILD_ENGINE is `postgres` (the same server),
`duckdb` (a file beside it) or `spark` (folders of Parquet, ADR 0054). The latter two get raw rows from the server and hand
the marts back.
"""

from __future__ import annotations

from sampan.engine.duckdb import DuckDB
from sampan.engine.postgres import Postgres
from sampan.engine.spark import Spark
from sampan.errors import Code, Problem, SettingsFailure
from sampan.settings import settings

ENGINES: dict[str, type[Postgres]] = {engine.name: engine for engine in (Postgres, DuckDB, Spark)}


def engine(as_known: int | None = None) -> Postgres:
    """The engine of builds; of a look-back, given by its build's number, always the server: it keeps no tables.

    Raises SettingsFailure when SAMPAN_BUILD_ENGINE names no engine.
    """
    name = settings().get("SAMPAN_BUILD_ENGINE", Postgres.name) if as_known is None else Postgres.name
    if name not in ENGINES:
        message = f"unknown engine {name!r} in SAMPAN_BUILD_ENGINE; engines: {', '.join(ENGINES)}"
        raise SettingsFailure(Problem(Code.SETTINGS_ENGINE, message))
    return ENGINES[name]()


def all_engines() -> list[Postgres]:
    """Every engine: one that built earlier may still have rows that are to be deleted."""
    return [engine() for engine in ENGINES.values()]
