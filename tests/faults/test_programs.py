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

from infra.local.postgres import EmbeddedPostgres
from infra.local.s3 import EmbeddedS3
from tests.conftest import template_on
from tests.factory import Partner
from tests.faults.invariants import failure_of, holds_at_any_moment, holds_at_the_end, is_exactly
from tests.faults.test_instants import FIRST_DAY, delivers, ingest, seed

FEED = "customs_declarations"
CONTRACT = get_contract(FEED)
# So little that a disk fills up soon.
SMALL = {"autovacuum": "off", "shared_buffers": "64MB", "max_wal_size": "96MB", "min_wal_size": "32MB"}
# Memory is taken only as files are written.
SIZE = 6 << 30


@contextmanager
def own_disk() -> Iterator[Path]:
    """A folder: a file system in memory, of a size that `leaves` changes, where tests run as root."""
    with tempfile.TemporaryDirectory(prefix="sampan-disk-", ignore_cleanup_errors=True) as folder:
        options = ["-t", "tmpfs", "-o", f"size={SIZE},mode=0755", "sampan-disk", folder]
        is_mounted = not os.geteuid() and not subprocess.run(["mount", *options], check=False).returncode
        try:
            yield Path(folder)
        finally:
            if is_mounted:
                subprocess.run(["umount", "--lazy", folder], check=True)


def leaves(folder: Path, room: int | None) -> None:
    """Leave a file system so many bytes; None for all that it had."""
    found = os.statvfs(folder)
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    size = SIZE if room is None else used + room
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


@pytest.fixture(scope="module")
def disks() -> Iterator[dict[str, Path]]:
    """A disk for each program."""
    with own_disk() as warehouse, own_disk() as store:
        yield {"warehouse": warehouse, "store": store}


@pytest.fixture(scope="module")
def crashing(disks: dict[str, Path]) -> Iterator[EmbeddedPostgres]:
    """A server for this module alone, which its tests may kill."""
    with EmbeddedPostgres(disks["warehouse"] / "data", tuning=SMALL) as postgres:
        yield postgres


@pytest.fixture(scope="module")
def object_store(disks: dict[str, Path]) -> Iterator[EmbeddedS3]:
    """A store for this module alone, which its tests may kill."""
    with EmbeddedS3(disks["store"] / "s3", buckets=("drop-of-tests", "landing-of-tests")) as s3:
        yield s3


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
        # The test's own may have been cut, too, and do not know it.
        for connection in partner.sampan.connections.values():
            connection.close()
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


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("program", KILLS)
def test_a_full_disk_holds_nothing_and_the_work_goes_on_when_there_is_room(program, disks, crashing, partner):
    """Kind of fault: a full disk is laid at the partner's door, or is the end of the server."""
    if not disks[program].is_mount():
        pytest.skip("a file system of its own can be mounted by root only")
    failures = 0
    for number, room in enumerate((0, 20_000, 100_000, 400_000, 1_000_000)):
        days = [FIRST_DAY + timedelta(days=2 * number + n) for n in range(2)]
        sound = delivers(partner, days)
        fetch.run(FEED)
        leaves(disks[program], room)
        failures += failure_of(ingest) != ""
        leaves(disks[program], None)
        _comes_back(crashing)
        holds_at_any_moment(partner.sampan)
        deadline = time.monotonic() + 90
        # SeaweedFS takes a volume on a full disk as read-only until it looks again.
        while failure_of(ingest):
            assert time.monotonic() < deadline
            time.sleep(2)
        is_exactly(partner.sampan, CONTRACT, sound, days)
        holds_at_the_end(partner.sampan)
    assert failures


def _comes_back(postgres: EmbeddedPostgres) -> None:
    """A server that could not write its log stops itself; what watches it starts it again."""
    deadline = time.monotonic() + 60
    while not postgres.answers():
        assert time.monotonic() < deadline
        if postgres.postmaster() is None:
            postgres.stop()
            postgres.start()
        time.sleep(0.2)
