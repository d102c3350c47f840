"""A real PostgreSQL and a real S3 for every test that asks: one of each per worker, a fresh database and empty buckets per
test. With SAMPAN_WAREHOUSE_DSN set (a role that may make roles and databases) that server is used instead."""

from __future__ import annotations

import fcntl
import gc
import hashlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any
from urllib.parse import quote

import httpx
import hypothesis
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
EXTERNAL_DSN = os.environ.get("SAMPAN_WAREHOUSE_DSN")
# An autovacuum worker is the superuser's, so a role that drops the worker's database cannot end it. Passwords that are
# hashed once save a third of the time of each connection.
QUICK = {"autovacuum": "off", "scram_iterations": "1"}

# A twentieth of the tests' time would go into looking for garbage among objects that stay, as dbt's and GX's do.
gc.set_threshold(50_000, 10, 10)
# Room for a test server with the 29-month world, and some to spare.
MEMORY_BYTES = 6 << 30

from sampan.contracts.model import FEEDS  # noqa: E402
from sampan.database import close_idle  # noqa: E402
from sampan.errors import Problem  # noqa: E402
from sampan.settings import settings  # noqa: E402
from sampan.warehouse import schema as warehouse_module  # noqa: E402

from infra.local.postgres import EmbeddedPostgres  # noqa: E402
from infra.local.s3 import EmbeddedS3  # noqa: E402
from tests import forked  # noqa: E402

# How many examples a property is tried on. A busy machine makes no test fail, and examples may share a fixture.
for profile, examples in {"quick": 50, "long": 1000}.items():
    shared = [hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile(
        profile, max_examples=examples, deadline=None, derandomize=profile == "quick", suppress_health_check=shared
    )
hypothesis.settings.load_profile("quick")

# What takes longest, first: the others fill the workers that it leaves free. By where a test's name begins.
LONGEST = (
    "tests/e2e/test_demo.py",
    "tests/integration/marts/test_questions.py",
    "tests/integration/infra",
    "tests/integration/marts",
    "tests/golden",
    "tests/bench",
    "tests/integration/ingest/test_simulated_partners.py",
    "tests/unit/infra",
    "tests/unit/test_dags.py",
    "tests/e2e",
    "tests/integration",
    "tests/faults",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first; those of a file stay together and in their order. Mark those of a property."""
    for item in items:
        if hypothesis.is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("property")
    items.sort(key=lambda item: next((n for n, start in enumerate(LONGEST) if item.nodeid.startswith(start)), 99))


def pytest_collection_finish() -> None:
    """Look for no garbage among what collecting has made: it stays."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Look for none at the end, where pytest would five times and Python once: seconds for each worker."""
    gc.freeze()


def pytest_xdist_auto_num_workers() -> int:
    """Workers of `-n auto`: two more than cores, since tests wait for programs, and each costs 20 seconds to begin.

    Each has servers of its own, so an external server, which all would share, gets one.
    """
    return 1 if EXTERNAL_DSN else min(os.cpu_count() or 1, 4) + 2


@dataclass
class Sampan:
    """One test's installation: its environment, its object store, and ways to ask its warehouse.

    `s3` has the keys of the store's administrator, for what partners and operators do; the platform has the loader's.
    """

    environment: dict[str, str]
    s3: Any
    state: Path
    delivered: list[str] = field(default_factory=list)
    # A connection costs the server as much as twenty small queries: one for each role asks all of a test's.
    connections: dict[str, psycopg.Connection[Any]] = field(default_factory=dict)

    def deliver(self, feed: str, day: date | str, name: str, body: bytes) -> str:
        """Put a file into the feed's drop prefix, as its partner would."""
        from sampan.contracts.registry import get_contract

        key = f"{get_contract(feed).drop_prefix}{day}/{name}"
        self.s3.put_object(Bucket=self.environment["SAMPAN_DROP_BUCKET"], Key=key, Body=body)
        self.delivered.append(key)
        return key

    def ingest(self, *feeds: str) -> None:
        """Every step of the ingest of these feeds, in this process."""
        from sampan.ingest import fetch, gate, land, load, publish

        for feed in feeds:
            for step in (fetch, land, load, gate, publish):
                step.run(feed)

    def rows(self, query: str, *values: Any, role: str = "loader") -> list[tuple[Any, ...]]:
        """Rows of a query as a role."""
        dsn = settings().dsn(role)
        if dsn not in self.connections or self.connections[dsn].closed:
            self.connections[dsn] = psycopg.connect(dsn, autocommit=True, options="-c timezone=Asia/Hong_Kong")
        return self.connections[dsn].execute(query, list(values) or None).fetchall()

    def one(self, query: str, *values: Any, role: str = "loader") -> Any:
        """The single value of a query as a role."""
        ((value,),) = self.rows(query, *values, role=role)
        return value

    def batch(self, feed: str) -> dict[str, Any]:
        """The newest batch of a feed."""
        with psycopg.connect(settings().dsn("loader"), row_factory=psycopg.rows.dict_row) as connection:
            query = "select * from ops.batch where feed = %s order by batch_id desc limit 1"
            row = connection.execute(query, [feed]).fetchone()
        assert row is not None, f"no batch of {feed}"
        return row

    def cli(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the `sampan` command as a person would; after `-c`, some code in a process of its own."""
        whole = os.environ | self.environment | {"COLUMNS": "200", "PYTHONPATH": str(ROOT / "plugins")} | environment
        return forked.run(list(arguments), whole, ROOT, timeout=300)

    def run(self, *arguments: str) -> None:
        """The `sampan` command in this process, for tests to which its output and its end are nothing."""
        from sampan.cli.app import app

        settings.cache_clear()
        with suppress(Exception, SystemExit):
            app(list(arguments))


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """DSN of a role that may make roles and databases."""
    if EXTERNAL_DSN:
        yield EXTERNAL_DSN
        return
    # Not in pytest's own folder: the next session of pytest shuts the folder of all sessions to other users, and the
    # server is another user when the tests run as root.
    with (
        tempfile.TemporaryDirectory(prefix="sampan-postgres-", dir=memory(), ignore_cleanup_errors=True) as folder,
        EmbeddedPostgres(Path(folder) / "data", durable=False, tuning=QUICK) as postgres,
    ):
        postgres.bootstrap()
        yield postgres.dsn()


def memory() -> str | None:
    """A folder in memory, where one has room: a database is 1,200 files, and on a disk a copy of it costs a second.

    None is the system's folder for temporary files.
    """
    shared = Path("/dev/shm")
    is_roomy = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > MEMORY_BYTES
    return str(shared) if is_roomy else None


@contextmanager
def throwaway_s3(folder: Path, **options: Any) -> Iterator[EmbeddedS3]:
    """An object store that keeps nothing: killed in the end, since it may take ten seconds to stop in order."""
    with EmbeddedS3(folder, **options) as s3:
        try:
            yield s3
        finally:
            s3.stop(timeout=0)


@pytest.fixture(scope="session")
def object_store() -> Iterator[EmbeddedS3]:
    with (
        tempfile.TemporaryDirectory(prefix="sampan-s3-", dir=memory(), ignore_cleanup_errors=True) as folder,
        throwaway_s3(Path(folder), buckets=("drop-of-tests", "landing-of-tests")) as s3,
    ):
        yield s3


@pytest.fixture(scope="session")
def secrets_of_session() -> dict[str, str]:
    """Roles belong to the server, so all databases of the session share one set of passwords."""
    names = ("SAMPAN_LOADER_PASSWORD", "SAMPAN_BUILDER_PASSWORD", "SAMPAN_BI_PASSWORD", "SAMPAN_PSEUDONYM_KEY")
    return {name: secrets.token_hex(32) for name in names}


@pytest.fixture(scope="session", autouse=True)
def quick_contracts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`init` that checks contracts, which takes seconds, once for all workers, as long as no file of them changes."""
    check, folder = warehouse_module.check_all, _folder_of_all_workers(tmp_path_factory)

    def check_once() -> list[Problem]:
        valid = folder / f"valid_contracts_{_digest(_files_state(FEEDS.parent))}"
        with _locked(valid):
            problems = [] if valid.exists() else check()
            if not problems:
                valid.touch()
        return problems

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warehouse_module, "check_all", check_once)
        yield


def _folder_of_all_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@contextmanager
def _locked(made: Path) -> Iterator[None]:
    """Only one worker makes what all of them use."""
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _files_state(folder: Path) -> str:
    """Changes with the files of a folder."""
    return repr([(str(path), path.stat().st_mtime_ns) for path in sorted(folder.rglob("*")) if path.is_file()])


@pytest.fixture(scope="session")
def template(server: str, secrets_of_session: dict[str, str]) -> Iterator[str]:
    """A database with the platform's schemas, from which each test's is copied."""
    with template_on(server, secrets_of_session) as name:
        yield name


@contextmanager
def template_on(server: str, secrets_of_session: dict[str, str]) -> Iterator[str]:
    """Name of a database with the platform's schemas on a server."""
    name = f"sampan_template_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    with pytest.MonkeyPatch.context() as patch:
        for key, value in secrets_of_session.items():
            patch.setenv(key, value)
        patch.setenv("SAMPAN_WAREHOUSE_DSN", make_conninfo(server, dbname=name))
        settings.cache_clear()
        warehouse_module.apply_schema()
    settings.cache_clear()
    close_idle()
    yield name
    drop_database(server, name)


def copy_database(server: str, template: str, name: str) -> None:
    """Copy a database of the platform, with the rights on it. Sessions on it that are kept for later are ended."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            # An autovacuum worker, which is the superuser's, gives way on its own.
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = %s and backend_type = 'client backend' and pid <> pg_backend_pid()",
            [template],
        )
        # By files: through the write-ahead log, as it is done by default, a copy takes five times as long.
        statement = sql.SQL("create database {} template {} strategy file_copy")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        # A copy takes a database's content along, not the rights on the database itself.
        rights = sql.SQL("grant connect, create, temporary on database {} to sampan_loader, sampan_builder")
        connection.execute(rights.format(sql.Identifier(name)))
        connection.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(name)))
        connection.execute(
            sql.SQL("grant connect on database {} to bi_reader, policy_reader, public_reader, sampan_bank").format(
                sql.Identifier(name)
            )
        )


def drop_database(server: str, name: str) -> None:
    """Drop a database and end its sessions. A worker of the server cannot be ended: wait for it."""
    close_idle()
    statement = sql.SQL("drop database {} with (force)").format(sql.Identifier(name))
    with psycopg.connect(server, autocommit=True) as connection:
        for _ in range(50):
            with suppress(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
                return
            time.sleep(0.2)
        connection.execute(statement)


def _empty(filer: httpx.Client, bucket: str) -> None:
    """Remove what is in a bucket, versions too. Through S3 it takes three times as long."""
    more = True
    while more:
        found = filer.get(f"/buckets/{bucket}/", headers={"Accept": "application/json"}).raise_for_status().json()
        for entry in found["Entries"] or ():
            filer.delete(quote(entry["FullPath"]), params={"recursive": "true"}).raise_for_status()
        more = found["ShouldDisplayLoadMore"]


@cache
def _filer_of(object_store: EmbeddedS3) -> httpx.Client:
    return object_store.filer(timeout=60)


@pytest.fixture(scope="session")
def quick_dbt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """dbt that parses a project once.

    A parse takes ten seconds, and to link what is read of its result half a second for each step. The workers of a session
    share the result, and the steps of a worker what was read and linked, as those of one build do. A look-back changes what
    it reads, so it reads its own. Builds of a worker share what was compiled of the models' templates.
    """
    from dbt.cli import main
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumaro_encoder, extended_mashumuro_decoder
    from dbt_common.clients.jinja import MacroFuzzEnvironment

    folder = _folder_of_all_workers(tmp_path_factory)
    read: dict[tuple[Path, str], Manifest] = {}
    compiled: dict[str, CodeType] = {}

    def compile_once(self: MacroFuzzEnvironment, source: str) -> CodeType:
        if source not in compiled:
            compiled[source] = super(MacroFuzzEnvironment, self).compile(source)
        return compiled[source]

    class CachedParse(main.dbtRunner):
        def invoke(self, args: list[str], **options: Any) -> main.dbtRunnerResult:
            if args[0] == "parse":
                return self._parse(args, **options)
            if self.manifest is None:
                # A command by hand: what is parsed differs in where it is written only.
                at = args.index("--project-dir")
                self.manifest = self._parse(["parse", *args[at : at + 4]]).result
            return super().invoke(args, **options)

        def _parse(self, args: list[str], **options: Any) -> main.dbtRunnerResult:
            database, state = os.environ["SAMPAN_DBT_DATABASE"], _dbt_state(Path(args[args.index("--project-dir") + 1]))
            kept = folder / f"dbt_{state}.msgpack"
            with _locked(kept):
                if not kept.exists():
                    parsed = super().invoke(args, **options)
                    if not parsed.success:
                        return parsed
                    kept.write_bytes(parsed.result.to_msgpack(extended_mashumaro_encoder))
            is_own = any("dbt_as_known" in argument for argument in args)
            manifest = None if is_own else read.get((kept, database))
            if manifest is None:
                manifest = Manifest.from_msgpack(kept.read_bytes(), decoder=extended_mashumuro_decoder)
                if os.environ["SAMPAN_DBT_TARGET"] == "postgres":
                    _name_database(manifest, database)
            if not is_own:
                read[kept, database] = manifest
            return main.dbtRunnerResult(success=True, result=manifest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "dbtRunner", CachedParse)
        patch.setattr(MacroFuzzEnvironment, "compile", compile_once)
        yield


@contextmanager
def without_data_tests() -> Iterator[None]:
    """Builds without dbt's tests of data, half of a build's nodes: for tests that judge the result themselves."""
    from dbt.cli import main

    class ModelsOnly(main.dbtRunner):
        def invoke(self, args: list[str], **options: Any) -> main.dbtRunnerResult:
            extra = ["--exclude-resource-type", "test"] if args[0] == "build" else []
            return super().invoke([*args, *extra], **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "dbtRunner", ModelsOnly)
        yield


@pytest.fixture
def models_only(quick_dbt: None) -> Iterator[None]:
    """`without_data_tests` for a whole test."""
    with without_data_tests():
        yield


def _name_database(manifest: Any, database: str) -> None:
    """Name the relations of a project, which may have been parsed for another database, with this one."""
    others = [node for node in (*manifest.nodes.values(), *manifest.sources.values()) if node.database != database]
    for node in others:
        node.relation_name = node.relation_name and node.relation_name.replace(f'"{node.database}"', f'"{database}"', 1)
        node.database = database
    if others:
        manifest.build_flat_graph()


def _dbt_state(project: Path) -> str:
    """What a parsed project depends on: its files, and how it connects, but for the database's name."""
    target = [os.environ.get(f"SAMPAN_DBT_{name}") for name in ("USER", "SSLMODE", "TARGET")]
    return _digest(repr((_files_state(project), target)))


@pytest.fixture
def sampan(
    server: str,
    template: str,
    object_store: EmbeddedS3,
    secrets_of_session: dict[str, str],
    quick_dbt: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Sampan]:
    """A fresh installation for one test."""
    with installed(server, template, object_store, secrets_of_session, tmp_path, monkeypatch) as installation:
        yield installation


@cache
def _administrator_of(object_store: EmbeddedS3) -> Any:
    """A client of the store's administrator: to make one costs more than ten of its calls."""
    return object_store.client()


@contextmanager
def installed(
    server: str,
    template: str,
    object_store: EmbeddedS3,
    secrets_of_session: dict[str, str],
    folder: Path,
    patch: pytest.MonkeyPatch,
) -> Iterator[Sampan]:
    """A fresh installation: its own database, empty buckets, a state folder in `folder`. A server has one at a time.

    Its environment is set through `patch`, and stays set.
    """
    # Always the same on a server of our own, so that what was linked of dbt's project is linked once.
    database = f"sampan_test_{secrets.token_hex(4)}" if EXTERNAL_DSN else "sampan_test"
    copy_database(server, template, database)
    s3, (drop, landing) = _administrator_of(object_store), object_store.buckets
    environment = secrets_of_session | {
        "SAMPAN_STATE": str(folder / "state"),
        "SAMPAN_WAREHOUSE_DSN": make_conninfo(server, dbname=database),
        "SAMPAN_S3_ENDPOINT": object_store.endpoint,
        "AWS_ACCESS_KEY_ID": object_store.access_key,
        "AWS_SECRET_ACCESS_KEY": object_store.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "SAMPAN_DROP_BUCKET": drop,
        "SAMPAN_LANDING_BUCKET": landing,
        **object_store.settings,
    }
    for key, value in environment.items():
        patch.setenv(key, value)
    settings.cache_clear()
    installation = Sampan(environment, s3, folder / "state")
    yield installation
    for connection in installation.connections.values():
        connection.close()
    settings.cache_clear()
    # A bucket of its own would cost each test half a second.
    for bucket in (drop, landing, "lake"):
        _empty(_filer_of(object_store), bucket)
    drop_database(server, database)
