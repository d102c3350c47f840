"""Backups of the embedded PostgreSQL, and the way back to any moment that they cover.

A folder has `base/<end of the backup, UTC>`, copies of the whole server, and `wal`, its write-ahead log since the oldest of
them. A moment is restored from the newest copy before it, on which the log is replayed up to that moment.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import psycopg

from infra.local.config import StackError
from infra.local.postgres import SUPERUSER, EmbeddedPostgres, as_server, binaries, open_way, server_user

NAME = "%Y%m%dT%H%M%SZ"
# How long a moment can be restored. What retention deletes is gone from here after this, and the time between two backups.
DAYS = 35
NEW = ".new"


class Backups:
    """The backups of one server in a folder, which is its user's and shut to all others."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).resolve()
        self.base, self.wal = self.folder / "base", self.folder / "wal"

    def prepare(self) -> None:
        """Make the folders. The server archives into one of them, so they have to be there before it starts."""
        user = server_user()
        for path in (self.folder, self.base, self.wal):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
            if user is not None:
                os.chown(path, user.pw_uid, user.pw_gid)
        if user is not None:
            open_way(self.folder, user.pw_uid)

    @property
    def tuning(self) -> dict[str, str]:
        """Settings with which a server archives its log here: what is lost with its disk is 15 minutes at most."""
        return {
            "archive_mode": "on",
            "archive_library": "basic_archive",
            "basic_archive.archive_directory": _quoted(str(self.wal)),
            "archive_timeout": "15min",
        }

    def kept(self) -> list[tuple[datetime, Path]]:
        """Each complete backup with the time of its end, oldest first."""
        found = sorted(path for path in self.base.iterdir() if path.name != NEW) if self.base.is_dir() else []
        return [(datetime.strptime(path.name, NAME).replace(tzinfo=UTC), path) for path in found]

    def take(self, postgres: EmbeddedPostgres) -> Path:
        """Copy the running server. One that dies in between leaves no backup.

        Raises StackError when the server does not archive here, or cannot be copied.
        """
        self.prepare()
        with psycopg.connect(postgres.dsn("postgres", SUPERUSER), autocommit=True) as connection:
            archives = (
                "select current_setting('archive_mode'), current_setting('basic_archive.archive_directory', true)"
            )
            archived = connection.execute(archives).fetchone()
        if archived != ("on", str(self.wal)):
            raise StackError(f"the server does not archive its log to {self.wal}: start it with SAMPAN_BACKUPS set")
        unfinished = self.base / NEW
        shutil.rmtree(unfinished, ignore_errors=True)
        postgres.copy_to(unfinished)
        done = _run(["pg_verifybackup", "--quiet", str(unfinished)])
        if done.returncode != 0:
            raise StackError(f"the backup is damaged and was not kept:\n{done.stderr[-2000:]}")
        # A moment within the second of its end is restored from the backup before it.
        complete = self.base / (datetime.now(UTC) + timedelta(seconds=1)).strftime(NAME)
        unfinished.rename(complete)
        return complete

    def expire(self, days: int = DAYS, now: datetime | None = None) -> list[Path]:
        """Delete what no moment of the last `days` days is restored from: backups, and the log before the oldest kept.

        Returns the deleted backups. The newest one stays, however old it is.
        """
        kept, since = self.kept(), (now or datetime.now(UTC)) - timedelta(days=days)
        expired = [path for (_, path), (following, _) in pairwise(kept) if following <= since]
        for path in expired:
            shutil.rmtree(path)
        # What an archiver that was killed left half copied, which no one reads and no other tool deletes.
        for path in self.wal.glob("archtemp.*"):
            if path.stat().st_mtime < time.time() - 24 * 3600:
                path.unlink()
        if left := [path for _, path in self.kept()]:
            done = _run(["pg_archivecleanup", "-b", str(self.wal), _first_log(left[0])])
            if done.returncode != 0:
                raise StackError(f"the log of expired backups was not deleted:\n{done.stderr[-2000:]}")
        return expired

    def restore(self, postgres: EmbeddedPostgres, at: datetime) -> Path | None:
        """Bring a stopped server back to a moment: as it was after the last transaction that had ended by then.

        What the server's folder held before is moved beside it, and returned: with it everything later than that moment
        would be lost. A restore that fails changes nothing.

        Raises StackError when the server runs, when no backup is older than the moment, or when the log ends before it.
        """
        if postgres.postmaster() is not None:
            raise StackError("the server is running: stop it first")
        kept = self.kept()
        fitting = [path for end, path in kept if end <= at]
        if not fitting:
            oldest = f"the oldest ended at {kept[0][0].isoformat()}" if kept else f"there is none in {self.folder}"
            raise StackError(f"no backup is older than {at.isoformat()}: {oldest}")
        copy = postgres.directory.with_name(f"{postgres.directory.name}.restored")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(fitting[-1], copy)
        (copy / "recovery.signal").touch()
        user = server_user()
        if user is not None:
            for path in (copy, *copy.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid)
        log = shlex.quote(str(self.wal)).replace("%", "%%")
        recovery = {
            "restore_command": _quoted(f"cp {log}/%f %p"),
            "recovery_target_time": _quoted(at.isoformat()),
            "recovery_target_action": "promote",
        }
        recovering = EmbeddedPostgres(
            copy,
            postgres.port,
            password=postgres.password,
            admin_password=postgres.admin_password,
            durable=postgres.durable,
            tuning=postgres.tuning | recovery,
        )
        try:
            recovering.run()
            _await_promotion(recovering)
        except StackError:
            recovering.stop()
            shutil.rmtree(copy, ignore_errors=True)
            raise
        recovering.stop()
        before = None
        if postgres.directory.exists():
            before = postgres.directory.with_name(
                f"{postgres.directory.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
            )
            postgres.directory.rename(before)
        copy.rename(postgres.directory)
        return before


def _await_promotion(server: EmbeddedPostgres, seconds: float = 3600.0) -> None:
    """Wait until the log is replayed up to the moment and the server is one of its own."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.runs():
        try:
            with psycopg.connect(server.dsn("postgres", SUPERUSER), autocommit=True) as connection:
                if connection.execute("select pg_is_in_recovery()").fetchone() == (False,):
                    return
        except psycopg.OperationalError:
            pass
        time.sleep(0.1)
    tail = (server.directory / "server.log").read_text(errors="replace")[-2000:]
    raise StackError(f"the moment was not reached, nothing was changed; the end of the server's log:\n{tail}")


def _first_log(backup: Path) -> str:
    """Name of the first file of the log that a backup needs."""
    label = (backup / "backup_label").read_text()
    return label.split("(file ", 1)[1].split(")", 1)[0]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    program, *arguments = command
    return subprocess.run(
        [str(binaries() / program), *arguments],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        env={"LC_ALL": "C"},
        **as_server(),
    )


def _quoted(value: str) -> str:
    """A value as the server's configuration takes it."""
    return "'" + value.replace("'", "''") + "'"
