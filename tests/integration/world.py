"""A simulated world on a warehouse of its own: 29 months of a few hundred enterprises, every feed of them published without
a fault, built and released once. All values are synthetic.

`python -m tests.integration.world --keep FOLDER` leaves a server with that world behind, for work on models; tests use it
instead of making one when SAMPAN_TEST_WORLD names the folder.
"""

from __future__ import annotations

import argparse
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sampan.calendar import HONG_KONG
from sampan.contracts.registry import all_contracts
from sampan.ingest import fetch, freshness, gate, land, load, publish
from sampan.marts import build, release
from sampan.settings import read_env_file, settings
from sampan.warehouse import schema as warehouse

from infra.local.postgres import EmbeddedPostgres
from infra.local.s3 import EmbeddedS3
from infra.simulator.deliver import FEEDS
from infra.simulator.population import make
from infra.simulator.serve import Behaviour, Server
from infra.simulator.world import World, monthly
from tests.conftest import drop_database, throwaway_s3, without_data_tests
from tests.integration.published import publish_frame, stored

SEED, SMES, VOLUME = 20260706, 750, 0.5
# Until 90 days after the festival of 2026.
FIRST, LAST = date(2024, 7, 1), date(2026, 11, 30)
# Open data goes back 14 months or to the year's edition: to be asked once a year, and when everything begins.
ASKED = ("2024-07", "2024-12", "2025-11", "2026-11")
RECEIVED = time_of_day(7, 0)
KEPT = os.environ.get("SAMPAN_TEST_WORLD")


@dataclass
class Simulated:
    """A world and the warehouse that it was released in.

    `frames` has by feed what was published, in order of receipt: the columns of raw and `business_date`;
    `delivered` the business dates of its deliveries, empty ones included. `population` is
    the truth about the enterprises, one row each; `truth` the simulation with everything that was planted.
    """

    truth: World
    environment: dict[str, str]
    frames: dict[str, pl.DataFrame] = field(default_factory=dict)
    delivered: dict[str, list[date]] = field(default_factory=dict)

    @property
    def population(self) -> pl.DataFrame:
        """One row per enterprise."""
        return self.truth.population.smes

    @property
    def last(self) -> date:
        """The last business date: everything is known by then."""
        return self.truth.last

    @property
    def judged_at(self) -> datetime:
        """Time at which the freshness of the feeds is judged."""
        return datetime.combine(self.last + timedelta(days=1), time_of_day(12), HONG_KONG)

    def read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query as the role of BI tools."""
        with self.installed(), psycopg.connect(settings().dsn("bi"), autocommit=True) as connection:
            connection.execute("set timezone to 'Asia/Hong_Kong'")
            return connection.execute(query, list(values) or None).fetchall()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """This world's installation as the one that the library works on."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            settings.cache_clear()
            yield
        settings.cache_clear()


def make_world(environment: Mapping[str, str]) -> Simulated:
    """Publish everything to an empty warehouse with its schemas, build and release it."""
    made = Simulated(_simulation(), dict(environment))
    with made.installed():
        freshness.set_clock(made.judged_at)
        _publish(made)
        for feed in all_contracts():
            freshness.record_poll(feed, at=made.judged_at)
        # dbt's tests of data run in the demo's builds.
        with without_data_tests():
            build.run()
        release.gate()
        release.run()
    return made


def _simulation() -> World:
    return World(SEED, make(SEED, SMES), monthly(FIRST, LAST), VOLUME)


def _publish(world: Simulated) -> None:
    """Publish what partners deliver in order of business date, and ask the simulated APIs as of each."""
    dropped = [(day, feed, frame) for feed, maker in FEEDS.items() for day, frame in maker(world.truth)]
    dropped.sort(key=lambda delivery: delivery[0])
    contracts = all_contracts()
    parts: dict[str, list[pl.DataFrame]] = {}

    def receive(feed: str, day: date, rows: pl.DataFrame) -> None:
        publish_frame(feed, day, rows, datetime.combine(day + timedelta(days=1), RECEIVED))
        world.delivered.setdefault(feed, []).append(day)
        parts.setdefault(feed, []).append(rows.with_columns(pl.lit(day).alias("business_date")))

    with _served(world) as feeds:
        for period in world.truth.periods:
            day, came = period.business_date, set()
            while dropped and dropped[0][0] <= day:
                delivered, feed, frame = dropped.pop(0)
                if frame is not None:
                    receive(feed, delivered, stored(feed, frame))
                    came.add(feed)
            # A partner that has to deliver every day delivers an empty file when there was nothing.
            for feed in sorted(parts.keys() - came):
                if contracts[feed].calendar.missing == "late" and contracts[feed].calendar.days == "business":
                    receive(feed, day, parts[feed][0].clear().drop("business_date"))
            for feed in feeds:
                if feed == "hkma_exchange_rates" or f"{day:%Y-%m}" in ASKED:
                    fetch.run(feed, day)
                    for step in (land, load, gate, publish):
                        step.run(feed)
                    world.delivered.setdefault(feed, []).append(day)
    world.frames = {feed: pl.concat(frames, how="vertical_relaxed") for feed, frames in parts.items()}
    _keep_served(world, feeds)


@contextmanager
def _served(world: Simulated) -> Iterator[list[str]]:
    """The simulated APIs instead of the official ones, on the world's last day; the feeds that they answer."""
    feeds = {feed: contract for feed, contract in all_contracts().items() if contract.source.kind == "api"}
    with Server(Behaviour(SEED), world=world.truth) as server, pytest.MonkeyPatch.context() as patch:
        base = server.url.removesuffix("/public")
        for contract in feeds.values():
            for request in contract.source.requests:
                patch.setenv(request.base_variable, base + urlsplit(request.base).path)
        settings.cache_clear()
        yield list(feeds)
    settings.cache_clear()


def _keep_served(world: Simulated, feeds: list[str]) -> None:
    """Let what came from the APIs be received when it was asked for, and keep what of it came to raw."""
    with psycopg.connect(settings().dsn("loader")) as connection:
        connection.execute("set timezone to 'Asia/Hong_Kong'")
        received = "update ops.batch set received_at = business_date + 1 + %s where feed = any(%s)"
        connection.execute(received, [RECEIVED, feeds])
        for feed in feeds:
            assert not connection.execute(
                "select problem from ops.batch where feed = %s and state <> 'published'", [feed]
            ).fetchall(), feed
            columns = sql.SQL(", ").join(sql.Identifier("r", column.name) for column in all_contracts()[feed].stored)
            rows = connection.execute(
                sql.SQL(
                    "select {}, b.business_date from raw.{} r join ops.batch b on b.batch_id = r._batch_id"
                    " order by b.batch_id, r._line"
                ).format(columns, sql.Identifier(feed))
            )
            names = [column.name for column in rows.description or ()]
            world.frames[feed] = pl.DataFrame(rows.fetchall(), schema=names, orient="row", infer_schema_length=None)


@contextmanager
def installation(
    server: str, s3: EmbeddedS3, state: Path, roles: Mapping[str, str], name: str
) -> Iterator[dict[str, str]]:
    """A new database with the platform's schemas, as the environment of an installation; `roles` has its passwords."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    environment = dict(roles) | {
        "SAMPAN_STATE": str(state),
        "SAMPAN_WAREHOUSE_DSN": make_conninfo(server, dbname=name),
        "SAMPAN_S3_ENDPOINT": s3.endpoint,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "SAMPAN_DROP_BUCKET": "drop",
        "SAMPAN_LANDING_BUCKET": "landing",
        **s3.settings,
    }
    with pytest.MonkeyPatch.context() as patch:
        for key, value in environment.items():
            patch.setenv(key, value)
        settings.cache_clear()
        warehouse.apply_schema()
    settings.cache_clear()
    yield environment


@pytest.fixture(scope="session")
def world(
    server: str, secrets_of_session: dict[str, str], quick_dbt: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Simulated]:
    """The simulated world, released. Its tests belong to the group `world`, so that it is made once."""
    if KEPT:
        yield kept(Path(KEPT))
        return
    folder, name = tmp_path_factory.mktemp("world"), f"sampan_world_{secrets.token_hex(4)}"
    with (
        throwaway_s3(folder / "s3") as s3,
        installation(server, s3, folder / "state", secrets_of_session, name) as environment,
    ):
        yield make_world(environment)
    drop_database(server, name)


def kept(folder: Path) -> Simulated:
    """The world that was left in a folder."""
    frames = {path.stem: pl.read_parquet(path) for path in (folder / "frames").iterdir()}
    left = Simulated(_simulation(), read_env_file(folder / "state" / "env"), frames)
    with left.installed(), psycopg.connect(settings().dsn("loader")) as connection:
        query = "select feed, array_agg(business_date order by batch_id) from ops.batch group by feed"
        left.delivered = dict(connection.execute(query).fetchall())
    return left


def keep(folder: Path) -> None:
    """Make the world on a server that stays, with its environment in the state folder FOLDER/state."""
    state = folder / "state"
    state.mkdir(parents=True)
    postgres = EmbeddedPostgres(folder / "data", durable=False)
    postgres.start()
    names = ("SAMPAN_LOADER_PASSWORD", "SAMPAN_BUILDER_PASSWORD", "SAMPAN_BI_PASSWORD", "SAMPAN_PSEUDONYM_KEY")
    roles = {name: secrets.token_hex(32) for name in names}
    started = time.monotonic()
    with EmbeddedS3(folder / "s3") as s3, installation(postgres.dsn(), s3, state, roles, "world") as environment:
        stored_at = state / "env"
        stored_at.touch(mode=0o600)
        stored_at.write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
        try:
            made = make_world(environment)
        except BaseException:
            postgres.stop()
            raise
    (folder / "frames").mkdir()
    for feed, frame in made.frames.items():
        frame.write_parquet(folder / "frames" / f"{feed}.parquet")
    rows = sum(len(frame) for frame in made.frames.values())
    print(f"{rows} rows, published, built and released in {time.monotonic() - started:.0f} s")
    print(f"export SAMPAN_STATE={state}")
    print(f"export SAMPAN_WAREHOUSE_DSN='{environment['SAMPAN_WAREHOUSE_DSN']}'")
    print("a copy to work on: psql \"$SAMPAN_WAREHOUSE_DSN\" -c 'create database mine template world'")
    print(f"the server's process: {postgres.postmaster()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, required=True, metavar="FOLDER")
    keep(parser.parse_args().keep.resolve())
    # The server is left running.
    os._exit(0)
