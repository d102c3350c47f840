"""The programs of the stack die, or have no disk left, while work runs: nothing is lost, and nothing is doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from sampan.contracts.registry import get_contract
from sampan.ingest import fetch
from sampan.settings import settings

from infra.local.postgres import EmbeddedPostgres
from infra.local.s3 import EmbeddedS3
from tests.conftest import template_on
from tests.factory import Partner
from tests.faults.invariants import failure_of, holds_at_any_moment, holds_at_the_end, is_exactly
from tests.faults.test_instants import FIRST_DAY, delivers, ingest, seed

FEED = "customs_declarations"
CONTRACT = get_contract(FEED)


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """A folder, on a file system of its own where tests run as root."""
    with tempfile.TemporaryDirectory(prefix="sampan-programs-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def crashing(disk: Path) -> Iterator[EmbeddedPostgres]:
    """A server for this module alone, which its tests may kill."""
    with EmbeddedPostgres(disk / "data", tuning={"autovacuum": "off"}) as postgres:
        yield postgres


@pytest.fixture(scope="module")
def object_store(disk: Path) -> Iterator[EmbeddedS3]:
    """A store for this module alone, which its tests may kill."""
    with EmbeddedS3(disk / "s3", buckets=("drop-of-tests", "landing-of-tests")) as s3:
        yield s3


@pytest.fixture(scope="module")
def buckets(object_store: EmbeddedS3) -> tuple[str, str]:
    drop, landing = object_store.buckets
    return drop, landing


@pytest.fixture(scope="module")
def server(crashing: EmbeddedPostgres) -> str:
    return crashing.dsn()


@pytest.fixture(scope="module")
def template(server: str, secrets_of_session: dict[str, str]) -> Iterator[str]:
    with template_on(server, secrets_of_session) as name:
        yield name


def kill_warehouse(postgres: EmbeddedPostgres, s3: EmbeddedS3) -> None:
    """The postmaster is killed; its children notice, and end. Then it is started again, and recovers."""
    postmaster = postgres.postmaster() or 0
    os.kill(postmaster, signal.SIGKILL)
    postgres.stop()
    deadline = time.monotonic() + 30
    # A backend that still lives holds the shared memory: the next server refuses to start beside it.
    while _children_in(postgres.directory) and time.monotonic() < deadline:
        time.sleep(0.05)
    postgres.start()


def _children_in(directory: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "cwd") == str(directory):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def kill_store(postgres: EmbeddedPostgres, s3: EmbeddedS3) -> None:
    assert s3._process is not None
    s3._process.kill()
    s3._process.wait()
    time.sleep(0.5)
    s3.start()


KILLS = {"warehouse": kill_warehouse, "store": kill_store}


def outlives(partner: Partner, kill: Callable[[], None], count: int) -> None:
    """Kill a program at random instants of a run of the ingest; the run fails transiently or not at all."""
    chance, failures = Random(seed()), 0
    for number in range(count):
        days = [FIRST_DAY + timedelta(days=2 * number + n) for n in range(2)]
        sound = delivers(partner, days)
        with ThreadPoolExecutor(1) as pool:
            outcome = pool.submit(failure_of, ingest)
            time.sleep(chance.uniform(0, 1.5))
            kill()
            failures += outcome.result(300) != ""
        holds_at_any_moment(partner.sampan)
        ingest()
        is_exactly(partner.sampan, CONTRACT, sound, days)
        holds_at_the_end(partner.sampan)
    assert count < 4 or failures


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("program", KILLS)
def test_every_record_counts_once_when_a_program_is_killed_while_work_runs(program, crashing, object_store, partner):
    outlives(partner, lambda: KILLS[program](crashing, object_store), 12)


# --- no disk left -----------------------------------------------------------------------------------------------------


SIZE = 6 << 30


@contextmanager
def own_disk() -> Iterator[Path]:
    """A file system in memory, of a size that `leaves` changes."""
    with tempfile.TemporaryDirectory(prefix="sampan-disk-", ignore_cleanup_errors=True) as folder:
        options = ["-t", "tmpfs", "-o", f"size={SIZE},mode=0755", "sampan-disk", folder]
        if os.geteuid() or subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
            pytest.skip("a file system can be mounted by root only")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def leaves(folder: Path, room: int | None) -> None:
    """Leave a file system so many bytes; None for all that it had."""
    found = os.statvfs(folder)
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    size = SIZE if room is None else used + room
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_warehouse_without_disk_holds_nothing_and_goes_on_when_there_is_room(
    secrets_of_session, request, object_store
):
    """Kind of fault: a full disk is the partner's fault, or the end of the server."""
    with (
        own_disk() as disk,
        EmbeddedPostgres(disk / "data", tuning=SMALL) as postgres,
        template_on(postgres.dsn(), secrets_of_session) as template,
    ):
        partner = request.getfixturevalue("on_small_disk")(postgres.dsn(), template)
        days = [FIRST_DAY + timedelta(days=n) for n in range(2)]
        sound = delivers(partner, days)
        fetch.run(FEED)
        failures = 0
        for room in (0, 100_000, 400_000, 1_000_000):
            leaves(disk, room)
            failures += failure_of(ingest) != ""
            leaves(disk, None)
            _comes_back(postgres)
            holds_at_any_moment(partner.sampan)
            assert partner.sampan.rows("select problem from ops.batch where state = 'held'") == []
        assert failures
        ingest()
        is_exactly(partner.sampan, CONTRACT, sound, days)
        holds_at_the_end(partner.sampan)


def _comes_back(postgres: EmbeddedPostgres) -> None:
    """A server that could not write its log stops itself; what watches it starts it again."""
    deadline = time.monotonic() + 60
    while not postgres.answers():
        assert time.monotonic() < deadline
        if postgres.postmaster() is None:
            postgres.stop()
            postgres.start()
        time.sleep(0.2)


SMALL = {
    "autovacuum": "off", "shared_buffers": "64MB", "max_wal_size": "96MB", "min_wal_size": "32MB",
    "maintenance_work_mem": "32MB", "fsync": "off",
}  # fmt: skip


@pytest.fixture
def on_small_disk(
    object_store: EmbeddedS3, secrets_of_session: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str, str], Partner]:
    """A partner of an installation in the given database."""
    from psycopg.conninfo import make_conninfo

    from tests.conftest import Sampan

    def make(dsn: str, database: str) -> Partner:
        drop, landing = object_store.buckets
        environment = secrets_of_session | {
            "SAMPAN_STATE": str(tmp_path / "state"),
            "SAMPAN_WAREHOUSE_DSN": make_conninfo(dsn, dbname=database),
            "SAMPAN_S3_ENDPOINT": object_store.endpoint,
            "AWS_ACCESS_KEY_ID": object_store.access_key,
            "AWS_SECRET_ACCESS_KEY": object_store.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "SAMPAN_DROP_BUCKET": drop,
            "SAMPAN_LANDING_BUCKET": landing,
            **object_store.settings,
        }
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        settings.cache_clear()
        return Partner(Sampan(environment, object_store.client(), tmp_path / "state"), monkeypatch)

    return make


@pytest.mark.slow
def test_a_store_without_disk_fails_transiently_and_goes_on_when_there_is_room(partner, monkeypatch):
    """The landing bucket is full: what the partner delivered stays in the drop bucket, and lands when there is room."""
    days = [FIRST_DAY + timedelta(days=n) for n in range(2)]
    with own_disk() as disk, EmbeddedS3(disk / "s3", buckets=("drop-of-tests", "landing-of-tests")) as s3:
        for key, value in {
            "SAMPAN_S3_ENDPOINT": s3.endpoint,
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
            **s3.settings,
        }.items():
            monkeypatch.setenv(key, value)
        settings.cache_clear()
        monkeypatch.setattr(partner.sampan, "s3", s3.client())
        sound = delivers(partner, days)
        fetch.run(FEED)
        failures = 0
        for room in (0, 20_000):
            leaves(disk, room)
            failures += "object store" in failure_of(ingest)
            leaves(disk, None)
            holds_at_any_moment(partner.sampan)
        assert failures
        assert partner.sampan.rows("select problem from ops.batch where state = 'held'") == []
        deadline = time.monotonic() + 90
        # SeaweedFS takes a volume on a full disk as read-only until it looks again.
        while failure_of(ingest):
            assert time.monotonic() < deadline
            time.sleep(2)
        is_exactly(partner.sampan, CONTRACT, sound, days)
        holds_at_the_end(partner.sampan)
    settings.cache_clear()
