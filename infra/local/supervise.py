"""Programs of the stack under supervisord: its configuration, its XML-RPC interface, and what is left after a crash."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ProtocolError, ServerProxy

from infra.local.config import HOME, Config, StackError

MARKER = "SAMPAN_PROGRAM"
RUNNING = ("RUNNING", "STARTING")


@dataclass(frozen=True)
class Program:
    """One supervised program. `ports` are the variables that say where it listens, `priority` the order of starting."""

    name: str
    command: tuple[str, ...]
    priority: int
    ports: tuple[str, ...] = ()
    directory: Path = HOME
    user: str | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 15
    environment: Mapping[str, str] = field(default_factory=dict)


class Supervisor:
    """The supervisord of one state folder."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.socket = config.socket_path("supervisor.sock")
        self.pid_file = config.state / "run" / "supervisord.pid"
        self.file = config.state / "run" / "supervisord.conf"

    def pid(self) -> int | None:
        """Process id of the supervisord that lives; None when there is none."""
        try:
            pid = int(self.pid_file.read_text())
            cmdline = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self.file) in cmdline else None

    def states(self) -> dict[str, dict[str, Any]]:
        """State of every program by name; empty when supervisord is down."""
        deadline = time.monotonic() + 5
        while self.pid() is not None:
            try:
                return {info["name"]: info for info in self._rpc().getAllProcessInfo()}
            except (OSError, HTTPException, ProtocolError):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.1)
        return {}

    def configure(self, programs: Iterable[Program]) -> None:
        """Write the configuration: mode 600, secrets are not in it (`exec` reads them from the env file)."""
        self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = _render(self, programs)
        temporary = self.file.with_suffix(".new")
        temporary.touch(mode=0o600)
        temporary.write_text(text)
        temporary.replace(self.file)

    def start(self) -> None:
        """Start supervisord, or let the running one take the new configuration over; programs stay stopped or go on."""
        if self.pid() is not None:
            self._reload()
            return
        environment = self.config.outside() | {"SAMPAN_STATE": str(self.config.state)}
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.file)],
            cwd=self.config.state,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"supervisord did not start: {done.stdout}{done.stderr}")
        _wait(lambda: bool(self.states()), 10, "supervisord does not answer")

    def clear(self) -> None:
        """End what a killed supervisord left behind: it holds ports and is not restarted."""
        end_leftovers(self.config)
        self.socket.unlink(missing_ok=True)

    def run(self, name: str) -> None:
        """Start a program that is not running, from any state."""
        rpc, state = self._rpc(), self.states()[name]["statename"]
        if state in RUNNING:
            return
        if state == "BACKOFF":
            self.halt(name)
        try:
            rpc.startProcess(name, False)
        except Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise StackError(f"{name} cannot be started: {fault.faultString}\n{self.tail(name)}") from fault

    def halt(self, name: str) -> None:
        """Stop a program and wait for it."""
        try:
            self._rpc().stopProcess(name, True)
        except Fault as fault:
            if "NOT_RUNNING" not in fault.faultString:
                raise

    def shutdown(self, timeout: float = 60.0) -> None:
        """Stop every program, then supervisord, then what is still alive of this stack."""
        pid = self.pid()
        if pid is not None:
            try:
                self._rpc().shutdown()
                _wait(lambda: not alive(pid), timeout, "supervisord does not stop")
            except (OSError, StackError):
                _signal(pid, signal.SIGKILL)
        self.clear()
        self.pid_file.unlink(missing_ok=True)

    def tail(self, name: str, size: int = 2000) -> str:
        """The end of a program's log."""
        try:
            return (self.config.logs / f"{name}.log").read_text(errors="replace")[-size:]
        except OSError:
            return ""

    def _reload(self) -> None:
        rpc = self._rpc()
        added, changed, removed = rpc.reloadConfig()[0]
        for group in [*changed, *removed]:
            rpc.stopProcessGroup(group, True)
            rpc.removeProcessGroup(group)
        for group in [*added, *changed]:
            rpc.addProcessGroup(group)

    def _rpc(self) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        return ServerProxy("http://127.0.0.1", transport=transport).supervisor


def leftovers(config: Config, program: str | None = None) -> list[int]:
    """Processes of this stack (or of one program) that no living supervisord looks after, and not this one."""
    marker = f"{MARKER}={config.marker(program or '')}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(item == marker if program else item.startswith(marker) for item in variables):
            found.append(int(entry.name))
    return found


def end_leftovers(config: Config, program: str | None = None, grace: float = 8.0) -> None:
    """Ask the leftovers to stop, then kill those that do not."""
    from infra.local.postgres import EmbeddedPostgres

    postmaster = EmbeddedPostgres(config.state / "postgres", 1).postmaster() if program in (None, "postgres") else None
    if postmaster is not None:
        _signal(postmaster, signal.SIGINT)
    for pid in leftovers(config, program):
        _signal(pid, signal.SIGTERM)

    def remaining() -> list[int]:
        return [*leftovers(config, program), *([postmaster] if postmaster and alive(postmaster) else [])]

    deadline = time.monotonic() + grace
    while (pids := remaining()) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in pids:
        _signal(pid, signal.SIGKILL)
    if pids:
        _wait(lambda: not remaining(), 5, f"processes do not end: {pids}")


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be collected does not.

    Its first thread may have ended before the others, which still hold its ports.
    """
    process = Path(f"/proc/{pid}")
    try:
        ended = process.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        return not ended or len(list(process.joinpath("task").iterdir())) > 1
    except OSError:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _wait(condition: Any, seconds: float, complaint: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(complaint)
        time.sleep(0.1)


def _render(supervisor: Supervisor, programs: Iterable[Program]) -> str:
    config = supervisor.config
    lines = [
        "[unix_http_server]",
        f"file={_escape(supervisor.socket)}",
        "chmod=0700",
        "[supervisord]",
        f"pidfile={_escape(supervisor.pid_file)}",
        f"logfile={_escape(config.logs / 'supervisord.log')}",
        "logfile_maxbytes=5MB",
        "logfile_backups=2",
        f"childlogdir={_escape(config.logs)}",
        f"directory={_escape(config.state)}",
        "minfds=4096",
        # What programs write is for their own user.
        "umask=077",
        *(["user=root"] if os.geteuid() == 0 else []),
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for program in programs:
        environment = {MARKER: config.marker(program.name), **program.environment}
        pairs = ",".join(f'{key}="{_escape(value)}"' for key, value in environment.items())
        lines += [
            f"[program:{program.name}]",
            f"command={_escape(shlex.join(program.command))}",
            f"directory={_escape(program.directory)}",
            f"environment={pairs}",
            f"priority={program.priority}",
            "autostart=false",
            "autorestart=true",
            "startsecs=1",
            "startretries=30",
            f"stopsignal={program.stop_signal}",
            f"stopwaitsecs={program.stop_seconds}",
            f"stopasgroup={'false' if program.stop_signal == 'INT' else 'true'}",
            "killasgroup=true",
            "redirect_stderr=true",
            # Relative to the state folder: the supervisor expands percent signs in this one twice.
            f"stdout_logfile=log/{program.name}.log",
            "stdout_logfile_maxbytes=10MB",
            "stdout_logfile_backups=2",
            *([f"user={program.user}"] if program.user else []),
        ]
    return "\n".join(lines) + "\n"


def _escape(value: object) -> str:
    return str(value).replace("%", "%%")
