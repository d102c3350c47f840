"""The local stack as a whole: which programs it has, how each is made ready and probed; up, down and status."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.local import airflow, people, s3, workers
from infra.local.backup import Backups
from infra.local.config import (
    BUCKETS,
    HOME,
    HOST,
    Config,
    StackError,
    check_ports,
    load,
    make_folders,
    read_env_file,
    save,
)
from infra.local.postgres import EmbeddedPostgres, server_user
from infra.local.superset import Superset, installed
from infra.local.supervise import MARKER, RUNNING, Program, Supervisor

PASSWORDS = {
    "bi_reader": "SAMPAN_BI_PASSWORD",
    "sampan_loader": "SAMPAN_LOADER_PASSWORD",
    "sampan_builder": "SAMPAN_BUILDER_PASSWORD",
}
WATCH = "watch"
OPEN_DATA = "open-data"
SUPERSET = "superset"
DESK = "desk"
INIT, DELIVER = "init", "deliver"
# Programs that know nothing of Airflow.
OWN = (WATCH, OPEN_DATA, DESK, INIT, DELIVER, workers.BROKER)
NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "SCARF_ANALYTICS": "false",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "GX_ANALYTICS_ENABLED": "false",
}
HKMA_PATH = "/public/market-data-and-statistics/monthly-statistical-bulletin/er-ir/er-eeri-daily"
Report = Callable[[str], None]


class Stack:
    """One local stack, as its configuration describes it."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or load()
        self.supervisor = Supervisor(self.config)
        folder = self.config["SAMPAN_BACKUPS"]
        self.backups = Backups(Path(folder)) if folder else None
        self.postgres = EmbeddedPostgres(
            self.config.state / "postgres",
            self.config.port("SAMPAN_PG_PORT"),
            password=self.config["SAMPAN_PG_SUPERUSER_PASSWORD"],
            admin_password=self.config["SAMPAN_PG_ADMIN_PASSWORD"],
            replica_password=self.config["SAMPAN_PG_REPLICA_PASSWORD"] if self.backups else None,
            tuning=self.backups.tuning if self.backups else None,
        )
        self.s3 = s3.EmbeddedS3(
            self.config.state / "s3",
            self.config.port("SAMPAN_S3_PORT"),
            access_key=self.config["SAMPAN_S3_ACCESS_KEY"],
            secret_key=self.config["SAMPAN_S3_SECRET_KEY"],
            buckets=[self.config[key] for key in BUCKETS],
            sockets=self.config.socket_path("s3.sock").parent,
        )

    @property
    def superset(self) -> Superset:
        """Superset, whether this stack has it or not."""
        parts = conninfo_to_dict(self.config["SAMPAN_WAREHOUSE_DSN"])
        warehouse = {
            "host": parts.get("host") or HOST,
            "port": int(parts.get("port") or 5432),
            "database": parts.get("dbname") or "sampan",
        }
        password, port = self.config["SAMPAN_SUPERSET_DB_PASSWORD"], self.config["SAMPAN_PG_PORT"]
        return Superset(
            self.config.state / SUPERSET,
            self.config.port("SAMPAN_SUPERSET_PORT"),
            f"postgresql+psycopg2://{SUPERSET}:{password}@{HOST}:{port}/{SUPERSET}",
            warehouse,
            secret_key=self.config["SAMPAN_SUPERSET_SECRET_KEY"],
            password=self.config["SAMPAN_SUPERSET_PASSWORD"],
        )

    @property
    def has_superset(self) -> bool:
        """Whether `make bi` has made Superset a program of this stack."""
        return installed() and self.superset.folder.exists()

    def programs(self) -> dict[str, Program]:
        """Every program of this stack by name, in the order of starting."""
        user = server_user()
        postgres = Program(
            "postgres",
            tuple(self.postgres.command),
            10,
            ports=("SAMPAN_PG_PORT",),
            directory=self.postgres.directory,
            user=user.pw_name if user else None,
            stop_signal="INT",
            stop_seconds=60,
            environment={"SAMPAN_FINGERPRINT": self.postgres.fingerprint},
        )
        serve = (sys.executable, "-m", "infra.simulator", "serve", "--port", self.config["SAMPAN_OPEN_DATA_PORT"])
        serve += ("--delivered", str(self.config.truth))
        programs = [postgres, self._program(OPEN_DATA, serve, 20, ports=("SAMPAN_OPEN_DATA_PORT",))]
        if not self.config.external_s3:
            served = self._program("s3", self.s3.command, 10, ports=("SAMPAN_S3_PORT",), stop_seconds=8)
            # It reads its identities when it starts, and they follow from the contracts.
            rights = {"SAMPAN_IDENTITIES": self.s3.fingerprint}
            programs.insert(1, replace(served, environment={**served.environment, **rights}))
        if workers.are_wanted(self.config):
            workers.require_installed()
            command = workers.broker_command(self.config)
            programs.append(self._program(workers.BROKER, command, 20, ports=("SAMPAN_BROKER_PORT",)))
        for name, command in airflow.commands(self.config).items():
            ports = ("SAMPAN_AIRFLOW_PORT",) if name == "api-server" else ()
            programs.append(self._program(name, command, 30, ports=ports))
        if self.has_superset:
            command = self.superset.command
            programs.append(self._program(SUPERSET, command, 35, ports=("SAMPAN_SUPERSET_PORT",)))
        desk = (sys.executable, "-m", "sampan.desk")
        programs.append(self._program(DESK, desk, 20, ports=("SAMPAN_DESK_PORT",)))
        programs.append(self._program(WATCH, (sys.executable, "-m", "infra.local", WATCH), 40))
        return {program.name: program for program in programs}

    def up(self, only: Sequence[str] = (), report: Report = print) -> list[str]:
        """Bring the programs (all, or `only` some) up, healed and ready; what runs already stays untouched.

        Returns:
            The names of the programs that had to be started.

        Raises:
            StackError: a port is taken, or a program does not come up; the text says which and what to do.
        """
        with self._lock():
            programs = self.programs()
            wanted = _chosen(programs, only)
            if self.supervisor.pid() is None:
                self.supervisor.clear()
            running, before = self._running(), read_env_file(self.config.env_file)
            ports = [(name, key) for name in wanted for key in programs[name].ports]
            new = [key for name, key in ports if name not in running or before.get(key) != self.config[key]]
            check_ports(self.config, new)
            save(self.config)
            self.supervisor.configure(programs.values())
            # Stops what runs on other settings, a port of before among them.
            self.supervisor.start()
            if "postgres" not in self._running():
                if self.backups:
                    self.backups.prepare()
                self.postgres.prepare()
            if not self.config.external_s3:
                self.s3.prepare()
            airflow.prepare(self.config)
            if workers.are_wanted(self.config):
                workers.prepare_broker(self.config)
            started: list[str] = []
            for wave in (
                {"postgres", "s3", workers.BROKER},
                {OPEN_DATA, DESK},
                set(airflow.commands(self.config)),
                {SUPERSET},
                {WATCH},
            ):
                names = [name for name in wanted if name in wave]
                if names:
                    self._start(names, started, report)
            return started

    def down(self) -> None:
        """Stop everything; nothing of this stack runs afterwards. What it stored stays."""
        with self._lock():
            self.supervisor.shutdown()

    def backup(self, days: int) -> list[Path]:
        """Take a backup of the running server, and delete what is past `days` days. Returns the deleted ones.

        Raises StackError when there is no folder for backups, or the server does not run with it.
        """
        backups = self._backups()
        with self._lock():
            if not self.postgres.answers():
                raise StackError("PostgreSQL does not run: `make up` first")
            backups.take(self.postgres)
            return backups.expire(days)

    def restore(self, at: datetime) -> Path | None:
        """Bring the stopped stack's PostgreSQL back to a moment; returns the folder of what it held before.

        Raises StackError when the stack runs, or when that moment cannot be restored.
        """
        backups = self._backups()
        with self._lock():
            if self.supervisor.pid() is not None:
                raise StackError("the stack is up: `make down` first")
            self.supervisor.clear()
            return backups.restore(self.postgres, at)

    def _backups(self) -> Backups:
        if self.backups is None:
            raise StackError(
                "there is no folder for backups: `SAMPAN_BACKUPS=<folder> make up` names it, and begins them"
            )
        return self.backups

    def status(self) -> list[tuple[str, str, str]]:
        """(program, state, detail) of every program: what the supervisor says, checked by a real probe."""
        states = self.supervisor.states()
        rows = []
        for name in self.programs():
            info = states.get(name)
            if info is None or info["statename"] not in RUNNING:
                rows.append((name, "down", "" if info is None else info["statename"].lower()))
            else:
                rows.append((name, "healthy" if self.probe(name) else "unhealthy", info["description"]))
        return rows

    def watch(self, patience: float, pause: float) -> None:
        """For ever: restart a program that runs but has not done its work for `patience` seconds.

        As many looks in a row as fit into that time have to fail, too. On a machine that is too busy, looks are rare, and two
        that failed far apart say nothing of the program; each restart would make it busier.
        """
        well, missed = dict.fromkeys(self.programs(), time.monotonic()), Counter[str]()
        while True:
            time.sleep(pause)
            for name, info in self.supervisor.states().items():
                young = info["now"] - info["start"] < patience
                if name == WATCH or info["statename"] != "RUNNING" or young or self.probe(name):
                    well[name], missed[name] = time.monotonic(), 0
                    continue
                missed[name] += 1
                if time.monotonic() - well[name] > patience and missed[name] > patience / pause:
                    print(f"{name} has not answered for {patience:.0f} seconds: restarting it", flush=True)
                    self.supervisor.halt(name)
                    self.supervisor.run(name)

    def probe(self, name: str) -> bool:
        """Whether the program does its work now, as its user would see it."""
        if name == WATCH:
            return True
        if name == "postgres":
            return self.postgres.answers()
        if name == "s3":
            return s3.answers(self.s3.client())
        if name == OPEN_DATA:
            return _answers(f"http://{HOST}:{self.config['SAMPAN_OPEN_DATA_PORT']}{HKMA_PATH}?pagesize=1")
        if name == SUPERSET:
            return self.superset.answers()
        if name == DESK:
            return _answers(f"{self.config.desk_url}/health")
        if name == workers.BROKER:
            return workers.broker_answers(self.config)
        if name in workers.WORKERS:
            return workers.worker_answers(self.config, name)
        return airflow.health(self.config).get(name, False)

    def dsn(self, role: str) -> str:
        """Connection string of `bi_reader`, `sampan_loader` or `sampan_builder`: a URI, as BI tools take it."""
        parts = conninfo_to_dict(self.config["SAMPAN_WAREHOUSE_DSN"])
        place = f"{parts.pop('host', None) or HOST}:{parts.pop('port', None) or 5432}/{parts.pop('dbname', None) or ''}"
        others = urlencode({key: value for key, value in parts.items() if key not in ("user", "password")})
        return f"postgresql://{role}:{self.config[PASSWORDS[role]]}@{place}{'?' + others if others else ''}"

    def environment(self, program: str | None = None) -> dict[str, str]:
        """The environment of a program of this stack, with the secrets that it needs, or of a command of a person.

        Sampan's own programs read theirs from the `env` file.
        """
        environment = {key: value for key, value in os.environ.items() if key not in self.config.values}
        if program is not None:
            # Process titles would overwrite the environment block, by which leftovers are recognised.
            environment = self.config.outside() | {MARKER: self.config.marker(program), "SPT_NOENV": "1"}
        environment |= {"SAMPAN_STATE": str(self.config.state)} | NO_TELEMETRY
        if program == "s3":
            return s3.without_keys(environment)
        if program == SUPERSET:
            # It runs in an environment of its own, where the platform is not installed.
            return environment | self.superset.environment
        if program == DESK:
            # No folder with the `env` file: the desks have no secret, and people's passwords are in their memory only.
            environment = {**environment, **self._desk()}
            del environment["SAMPAN_STATE"]
        paths = [str(HOME), str(HOME / "plugins"), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if path))
        return environment if program in OWN else environment | airflow.environment(self.config, program)

    def _desk(self) -> dict[str, str]:
        """What the desks have to know: where the warehouse is, without a login, and where the pages of answers are."""
        parts = conninfo_to_dict(self.config["SAMPAN_WAREHOUSE_DSN"])
        place = {key: value for key, value in parts.items() if key not in ("user", "password")}
        return {
            "SAMPAN_DESK_DSN": make_conninfo(**place),
            "SAMPAN_DESK_PORT": self.config["SAMPAN_DESK_PORT"],
            "SAMPAN_DESK_ANSWERS": str(self.config.state / "reports"),
            "SAMPAN_DROP_BUCKET": self.config["SAMPAN_DROP_BUCKET"],
            "SAMPAN_SYNTHETIC": self.config["SAMPAN_SYNTHETIC"],
        }

    def _start(self, names: Sequence[str], started: list[str], report: Report) -> None:
        """Start a wave of programs that may start side by side, then wait for each and make it ready for use."""
        if set(names) & set(airflow.commands(self.config)):
            airflow.migrate(self.config, self.environment(), report)
        if SUPERSET in names:
            known = people.known(self.config.state)
            self.superset.add_demo(self.config["SAMPAN_WAREHOUSE_DSN"], self.environment(INIT), known)
            self.superset.load(self.environment(SUPERSET), report)
        for name in names:
            if self.supervisor.states()[name]["statename"] not in RUNNING:
                report(f"starting {name}")
                self.supervisor.run(name)
                started.append(name)
        for name in names:
            self._await(name)
        if "postgres" in names:
            databases = {"airflow": ("airflow", self.config["SAMPAN_AIRFLOW_DB_PASSWORD"])}
            if workers.are_wanted(self.config):
                databases[workers.RESULTS] = (workers.RESULTS, self.config["SAMPAN_CELERY_DB_PASSWORD"])
            if self.has_superset:
                databases[SUPERSET] = (SUPERSET, self.config["SAMPAN_SUPERSET_DB_PASSWORD"])
            self.postgres.bootstrap(databases)
            self._make_schemas()
        if self.config.external_s3:
            keys = ("SAMPAN_S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
            s3.make_buckets(s3.client(*(self.config[key] for key in keys)), *self.s3.buckets)
        elif "s3" in names:
            self.s3.make_buckets()
        if "api-server" in names:
            airflow.make_pools(self.config)
        if "dag-processor" in names and "dag-processor" not in started:
            airflow.reparse(self.config)

    def _make_schemas(self) -> None:
        """Let the library make its schemas, roles and tables; it changes nothing when they are there."""
        command = [sys.executable, "-m", "sampan.cli", "init"]
        done = subprocess.run(
            command,
            cwd=HOME,
            env=self.environment(INIT),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"`sampan init` failed, the warehouse has no schemas:\n{done.stdout}{done.stderr[-3000:]}")

    def _await(self, name: str, seconds: float = 300.0) -> None:
        """Wait until the program answers its probe.

        Raises:
            StackError: it gave up, dies again and again, or does not answer in time; with the end of its log.
        """
        deadline, lives = time.monotonic() + seconds, set()
        while True:
            info = self.supervisor.states()[name]
            if info["statename"] in RUNNING and self.probe(name):
                return
            lives.add(info["pid"])
            if info["statename"] in ("FATAL", "STOPPED") or len(lives - {0}) > 3 or time.monotonic() > deadline:
                log = self.config.logs / f"{name}.log"
                text = f"{name} does not come up; the end of {log}:\n{self.supervisor.tail(name)}"
                raise StackError(text)
            time.sleep(0.1)

    def _running(self) -> set[str]:
        return {name for name, info in self.supervisor.states().items() if info["statename"] in RUNNING}

    def _program(
        self, name: str, command: Sequence[str], priority: int, ports: tuple[str, ...] = (), stop_seconds: int = 15
    ) -> Program:
        wrapped = (sys.executable, "-m", "infra.local", "exec", name, "--", *command)
        environment = {"SAMPAN_FINGERPRINT": self.config.fingerprint, "SAMPAN_STATE": str(self.config.state)}
        return Program(name, wrapped, priority, ports=ports, stop_seconds=stop_seconds, environment=environment)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One `up` or `down` at a time."""
        make_folders(self.config)
        with (self.config.state / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _chosen(programs: dict[str, Any], only: Sequence[str]) -> list[str]:
    unknown = set(only) - set(programs)
    if unknown:
        raise StackError(f"no program called {', '.join(sorted(unknown))}; there are {', '.join(programs)}")
    return [name for name in programs if not only or name in only]


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=3) as response:  # noqa: S310
            return bool(response.status == 200)
    except OSError:
        return False
