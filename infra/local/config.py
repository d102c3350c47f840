"""Where the local stack lives, which ports it takes, and the secrets that it makes on its first start."""

from __future__ import annotations

import base64
import os
import re
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

HOME = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
WEED_PORTS = 10

PORTS = {
    "SAMPAN_PG_PORT": 15432,
    "SAMPAN_S3_PORT": 18330,
    "SAMPAN_AIRFLOW_PORT": 18080,
    "SAMPAN_OPEN_DATA_PORT": 18090,
    "SAMPAN_SUPERSET_PORT": 18088,
    "SAMPAN_DESK_PORT": 18095,
    "SAMPAN_BROKER_PORT": 18379,
}
BUCKETS = {
    "SAMPAN_DROP_BUCKET": "drop",
    "SAMPAN_LANDING_BUCKET": "landing",
    "SAMPAN_REPORT_BUCKET": "reports",
    "SAMPAN_LAKE_BUCKET": "lake",
}
EXECUTORS = ("LocalExecutor", "CeleryExecutor")
FOLDERS = ("airflow", "broker", "dbt", "dbt_as_known", "log", "reports", "run", "s3", "truth")
# What a start that died before it had settings leaves behind, and what commands and tests write before the first start.
LEFT = {"superset", "lock", "postgres", "env.new", "lost+found"}
WRITTEN = {"dbt_by_hand", "duckdb", "lineage", "pictures", "site", "spark", "status"}
OWN = {*FOLDERS, *LEFT, *WRITTEN}
EXTERNAL = ("SAMPAN_WAREHOUSE_DSN", "SAMPAN_S3_ENDPOINT")
SECRETS = {
    "SAMPAN_PG_SUPERUSER_PASSWORD": lambda: secrets.token_hex(24),
    "SAMPAN_PG_ADMIN_PASSWORD": lambda: secrets.token_hex(24),
    "SAMPAN_PG_REPLICA_PASSWORD": lambda: secrets.token_hex(24),
    "SAMPAN_LOADER_PASSWORD": lambda: secrets.token_hex(24),
    "SAMPAN_BUILDER_PASSWORD": lambda: secrets.token_hex(24),
    "SAMPAN_BI_PASSWORD": lambda: secrets.token_hex(16),
    "SAMPAN_S3_ACCESS_KEY": lambda: secrets.token_hex(10),
    "SAMPAN_S3_SECRET_KEY": lambda: secrets.token_hex(24),
    "SAMPAN_PSEUDONYM_KEY": lambda: secrets.token_hex(32),
    "SAMPAN_AIRFLOW_DB_PASSWORD": lambda: secrets.token_hex(24),
    "SAMPAN_AIRFLOW_PASSWORD": lambda: secrets.token_hex(12),
    "SAMPAN_AIRFLOW_FERNET_KEY": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "SAMPAN_AIRFLOW_JWT_SECRET": lambda: secrets.token_hex(32),
    "SAMPAN_AIRFLOW_SECRET_KEY": lambda: secrets.token_hex(32),
    "SAMPAN_BROKER_PASSWORD": lambda: secrets.token_hex(24),
    "SAMPAN_CELERY_DB_PASSWORD": lambda: secrets.token_hex(24),
    "SAMPAN_SUPERSET_DB_PASSWORD": lambda: secrets.token_hex(24),
    "SAMPAN_SUPERSET_PASSWORD": lambda: secrets.token_hex(12),
    "SAMPAN_SUPERSET_SECRET_KEY": lambda: secrets.token_hex(32),
}
# Names of what a person may have in the shell, and no program of the stack needs. Airflow's settings are the stack's own.
SECRETIVE = re.compile("PASSW|SECRET|TOKEN|CREDENTIAL|KEY$|^AIRFLOW__")


class StackError(Exception):
    """The stack cannot be brought up or down; the text says why and what to do."""


@dataclass(frozen=True)
class Config:
    """One local stack: its state folder and the KEY=VALUE pairs of its `env` file."""

    state: Path
    values: dict[str, str] = field(repr=False)
    external_s3: bool = False

    def __getitem__(self, key: str) -> str:
        return self.values[key]

    def port(self, key: str) -> int:
        """Number of the port that a variable chooses."""
        return int(self.values[key])

    @property
    def env_file(self) -> Path:
        """File of the settings and secrets, mode 600."""
        return self.state / "env"

    @property
    def logs(self) -> Path:
        """Folder with one log per program."""
        return self.state / "log"

    @property
    def desk_url(self) -> str:
        """Where people reach the desks."""
        return f"http://{HOST}:{self['SAMPAN_DESK_PORT']}"

    @property
    def truth(self) -> Path:
        """Folder of what the simulated partners delivered; their servers answer about the same world."""
        return self.state / "truth"

    @property
    def fingerprint(self) -> str:
        """Changes when a setting changes, so that the supervisor restarts what runs on old ones."""
        return sha256(repr(sorted(self.values.items())).encode()).hexdigest()[:16]

    def outside(self) -> dict[str, str]:
        """This process's environment for programs that run on: without the stack's settings and a person's own secrets."""
        return {
            name: value for name, value in os.environ.items() if name not in self.values and not SECRETIVE.search(name)
        }

    def marker(self, program: str = "") -> str:
        """Value of SAMPAN_PROGRAM in the environment of every process of a program of this stack."""
        return f"{self.state}:{program}"

    def socket_path(self, name: str) -> Path:
        """A path for a UNIX socket that fits into the 107 bytes of its address, for any name of the state folder."""
        path = self.state / "run" / name
        # The supervisor binds a temporary name, ".<pid>" longer, and renames it.
        if len(os.fsencode(path)) <= 90:
            return path
        digest = sha256(os.fsencode(self.state)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"sampan-{os.geteuid()}-{digest}" / name


def load(environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration as the `env` file and the environment give it; secrets that are missing are made, not saved.

    The environment may choose ports and buckets and hand over a warehouse (SAMPAN_WAREHOUSE_DSN) or an S3 service
    (SAMPAN_S3_ENDPOINT) of its own; ports and buckets are remembered, services only as long as the variable is set.
    """
    state = Path(environ.get("SAMPAN_STATE") or HOME / ".sampan").resolve()
    try:
        saved = read_env_file(state / "env")
    except OSError as error:
        raise StackError(
            f"{state / 'env'}: {error.strerror}; name another folder with SAMPAN_STATE=<folder>"
        ) from error
    values = {key: saved.get(key) or make() for key, make in SECRETS.items()}
    for key, default in PORTS.items():
        values[key] = _port(key, environ.get(key) or saved.get(key) or str(default))
    for key, default in BUCKETS.items():
        values[key] = environ.get(key) or saved.get(key) or default
    executor = environ.get("SAMPAN_AIRFLOW_EXECUTOR") or saved.get("SAMPAN_AIRFLOW_EXECUTOR")
    values["SAMPAN_AIRFLOW_EXECUTOR"] = _executor(executor or EXECUTORS[0])
    # A folder, or nothing: then the server keeps no log to restore from. Remembered, like ports and buckets.
    folder = environ.get("SAMPAN_BACKUPS", saved.get("SAMPAN_BACKUPS", ""))
    values["SAMPAN_BACKUPS"] = str(Path(folder).resolve()) if folder else ""
    embedded = {
        "SAMPAN_WAREHOUSE_DSN": f"postgresql://sampan_admin:{values['SAMPAN_PG_ADMIN_PASSWORD']}"
        f"@{HOST}:{values['SAMPAN_PG_PORT']}/sampan",
        "SAMPAN_S3_ENDPOINT": f"http://{HOST}:{values['SAMPAN_S3_PORT']}",
    }
    for key, default in embedded.items():
        values[key] = environ.get(key) or default
    # A shell that sourced the env file carries its values: those are this stack's own, not somebody's service.
    external = {key: values[key] not in (embedded[key], saved.get(f"{key}_EMBEDDED")) for key in EXTERNAL}
    for key in EXTERNAL:
        values[f"{key}_EMBEDDED"] = embedded[key]
        if not external[key]:
            values[key] = embedded[key]
    aws = environ if external["SAMPAN_S3_ENDPOINT"] else {}
    values["AWS_ACCESS_KEY_ID"] = aws.get("AWS_ACCESS_KEY_ID", values["SAMPAN_S3_ACCESS_KEY"])
    values["AWS_SECRET_ACCESS_KEY"] = aws.get("AWS_SECRET_ACCESS_KEY", values["SAMPAN_S3_SECRET_KEY"])
    values["AWS_DEFAULT_REGION"] = aws.get("AWS_DEFAULT_REGION", "us-east-1")
    if not external["SAMPAN_S3_ENDPOINT"]:
        values |= store_settings(state / "s3", int(values["SAMPAN_S3_PORT"]))
    # Partners and open data of the local stack are simulated, unless someone says otherwise.
    values["SAMPAN_SYNTHETIC"] = environ.get("SAMPAN_SYNTHETIC") or saved.get("SAMPAN_SYNTHETIC") or "yes"
    values["SAMPAN_PSEUDONYM_KEY_VERSION"] = saved.get("SAMPAN_PSEUDONYM_KEY_VERSION", "1")
    # Older keys, kept after a rotation.
    values |= {key: value for key, value in saved.items() if re.fullmatch("SAMPAN_PSEUDONYM_KEY_[0-9]+", key)}
    for variable, base in api_bases().items():
        values[variable] = (
            environ.get(variable) or f"http://{HOST}:{values['SAMPAN_OPEN_DATA_PORT']}{urlsplit(base).path}"
        )
    return Config(state, values, external["SAMPAN_S3_ENDPOINT"])


def store_settings(directory: Path, port: int) -> dict[str, str]:
    """What the library has to know of the embedded store in a folder, besides its endpoint and the loader's keys."""
    keys = directory / "keys"
    return {
        "SAMPAN_S3_PARTNER_KEYS": str(keys / "partners.json"),
        "SAMPAN_SEAWEEDFS_MASTER": f"https://{HOST}:{port + 2}",
        "SAMPAN_SEAWEEDFS_FILER": f"https://{HOST}:{port + 4}",
        "SAMPAN_SEAWEEDFS_CERTIFICATE": str(keys / "store.pem"),
    }


def make_folders(config: Config) -> None:
    """The state folder and those in it that no other user may read.

    Raises:
        StackError: the folder cannot be used, or is somebody's: not empty, and not made here.
    """
    state = config.state
    try:
        found = {path.name for path in state.iterdir()} if state.exists() else set()
        if "env" not in found and found - OWN:
            text = f"{state} is in use for something else: name a new or empty folder with SAMPAN_STATE=<folder>"
            raise StackError(text)
        state.mkdir(parents=True, exist_ok=True)
        # Under root the database server is another user's and has to pass through.
        _shut(state, 0o711 if os.geteuid() == 0 else 0o700)
        for name in FOLDERS:
            (state / name).mkdir(exist_ok=True)
            _shut(state / name, 0o700)
        lock = state / "lock"
        lock.touch(0o600)
        _shut(lock, 0o600)
    except OSError as error:
        text = f"the state folder cannot be made: {error.filename or state}: {error.strerror}"
        raise StackError(f"{text}; name another with SAMPAN_STATE=<folder>") from error


def _shut(path: Path, mode: int) -> None:
    """Set a mode that an earlier version, or a person's umask, left wider. A volume may belong to somebody else."""
    found = path.stat()
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)


def api_bases() -> dict[str, str]:
    """The official address that each variable of a contract replaces; here the simulator answers in its place."""
    from sampan.contracts.registry import all_contracts

    requests = (request for contract in all_contracts().values() for request in contract.source.requests)
    return {request.base_variable: request.base for request in requests if request.base_variable}


def save(config: Config) -> None:
    """Write the `env` file, mode 600, in one step."""
    make_folders(config)
    lines = ["# Made by `make up`: secrets of this machine's local stack. Not for commit, not for sharing."]
    lines += [f"{key}={value}" for key, value in sorted(config.values.items())]
    write_private(config.env_file, "\n".join(lines) + "\n")


def private_folder(path: Path) -> None:
    """Make a folder that only its owner may enter, or shut one that is there.

    Raises:
        StackError: it is another user's; in the system's temporary folder anybody can make it.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise StackError(f"{path} is another user's; remove it, or name a shorter folder with SAMPAN_STATE=<folder>")
    path.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def read_env_file(path: Path) -> dict[str, str]:
    """KEY=VALUE lines of a file that may not exist."""
    if not path.exists():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def port_is_free(port: int) -> bool:
    """Whether a program could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(block: int = 1) -> int:
    """The first of `block` neighbouring ports that are all free now.

    Below the range that the system takes for outgoing connections: one of those could take the port of a server that is
    being restarted.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(200):
        first = 10_000 + secrets.randbelow(max(low, 12_000) - block - 10_000)
        if all(port_is_free(port) for port in range(first, first + block)):
            return first
    raise StackError(f"no {block} neighbouring free ports on {HOST}")


def check_ports(config: Config, wanted: Iterable[str]) -> None:
    """Refuse to start on ports that another program holds.

    Raises:
        StackError: names each taken port and the variable that chooses another.
    """
    taken = []
    for key in wanted:
        first, count = config.port(key), WEED_PORTS if key == "SAMPAN_S3_PORT" else 1
        busy = [port for port in range(first, first + count) if not port_is_free(port)]
        if busy:
            ports = ", ".join(map(str, busy))
            span = f" (it takes {count} ports from there)" if count > 1 else ""
            taken.append(f"port {ports} on {HOST} is taken: choose another with {key}=<port>{span}, now {first}")
    if taken:
        raise StackError("\n".join(taken))


def _executor(name: str) -> str:
    if name not in EXECUTORS:
        text = f"SAMPAN_AIRFLOW_EXECUTOR={name}: the local stack has {' and '.join(EXECUTORS)}"
        raise StackError(f"{text}; for Kubernetes see docs/growth.md, Airflow beyond one machine")
    return name


def _port(key: str, text: str) -> str:
    if not text.isdigit() or not 0 < int(text) < 65536 - WEED_PORTS:
        raise StackError(f"{key}={text} is not a port: give a number from 1 to {65535 - WEED_PORTS}")
    return text
