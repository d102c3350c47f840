"""The local stack on a folder of its own: started, killed piece by piece, healed and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from botocore.exceptions import ClientError

from infra.local import s3
from infra.local.config import (
    FOLDERS,
    HOST,
    PORTS,
    SECRETS,
    WEED_PORTS,
    Config,
    StackError,
    free_port,
    load,
    make_folders,
)
from infra.local.postgres import EmbeddedPostgres, open_way
from infra.local.stack import Stack
from infra.local.supervise import alive, leftovers
from tests.conftest import ROOT

# One worker runs them all: they share a stack.
pytestmark = pytest.mark.xdist_group("stack")

LANDING = "landing-of-ours"
PROGRAMS = ["postgres", "s3", "open-data", "desk", "watch"]
# Which secrets may be in the environment of each program. Sampan's own programs read the `env` file, S3 a file of keys.
METADATA = {"SAMPAN_AIRFLOW_DB_PASSWORD", "SAMPAN_AIRFLOW_FERNET_KEY"}
MAY_KNOW = {
    "postgres": set(),
    "s3": set(),
    "open-data": set(),
    "desk": set(),
    "watch": set(),
    "dag-processor": METADATA,
    "triggerer": METADATA,
    "scheduler": METADATA | {"SAMPAN_AIRFLOW_JWT_SECRET"},
    "api-server": METADATA | {"SAMPAN_AIRFLOW_JWT_SECRET", "SAMPAN_AIRFLOW_SECRET_KEY"},
}
# With Celery workers, whose broker reads a file.
CELERY = {"SAMPAN_BROKER_PASSWORD", "SAMPAN_CELERY_DB_PASSWORD"}
MAY_KNOW_WITH_CELERY = MAY_KNOW | {
    "broker": set(),
    "scheduler": MAY_KNOW["scheduler"] | CELERY,
    "worker-1": CELERY,
    "worker-2": CELERY,
}
# What a person may have in the shell.
OF_A_PERSON = {
    "GITHUB_TOKEN": "planted-token",
    "PGPASSWORD": "planted-password",
    "AIRFLOW__CORE__FERNET_KEY": "planted-key",
}
STRANGER = 65534


def free_ports() -> dict[str, str]:
    return {key: str(free_port(WEED_PORTS if key == "SAMPAN_S3_PORT" else 1)) for key in PORTS}


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A folder whose name is as inconvenient as names get: spaces, a percent sign, too long for a UNIX socket."""
    state = tmp_path_factory.mktemp("stack") / f"a folder of 100% {'and a long name ' * 6}too"
    return load({"SAMPAN_STATE": str(state), "SAMPAN_LANDING_BUCKET": LANDING, **free_ports()})


@pytest.fixture(scope="module")
def stack(config: Config) -> Iterator[Stack]:
    stack = Stack(config)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in OF_A_PERSON.items():
                patch.setenv(name, value)
            assert stack.up(PROGRAMS, report=lambda _: None) == PROGRAMS
        yield stack
    finally:
        stack.down()


def test_up_changes_nothing_when_all_is_up(stack: Stack) -> None:
    before = {name: info["pid"] for name, info in stack.supervisor.states().items()}
    assert stack.up(PROGRAMS, report=lambda _: None) == []
    assert {name: info["pid"] for name, info in stack.supervisor.states().items()} == before


def test_secrets_are_readable_by_the_owner_alone_and_nowhere_else(stack: Stack) -> None:
    assert stat.S_IMODE(stack.config.env_file.stat().st_mode) == 0o600
    # The id of a key goes over the wire in clear and into logs; it opens nothing without its secret.
    secrets = {name: stack.config[name].encode() for name in SECRETS if name != "SAMPAN_S3_ACCESS_KEY"}
    assert len(secrets) >= 10
    pids = [*leftovers(stack.config), stack.postgres.postmaster()]
    assert len(pids) >= 2
    seen = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)
    seen += b"".join(path.read_bytes() for path in [stack.supervisor.file, *stack.config.logs.iterdir()])
    assert [name for name, secret in secrets.items() if secret in seen] == []


def secrets_known(stack: Stack, program: str) -> set[str]:
    """Names of the secrets, the stack's and a person's, in the environments of a program's processes."""
    secrets = {name: stack.config[name] for name in SECRETS} | OF_A_PERSON
    pids = [stack.supervisor.pid()] if program == "supervisor" else leftovers(stack.config, program)
    assert pids, program
    seen = b"".join(Path(f"/proc/{pid}/environ").read_bytes() for pid in pids)
    # The desks know no folder with secrets either.
    assert b"SAMPAN_STATE" in seen or program == "postgres" or (program == "desk" and b"SAMPAN_DESK_DSN" in seen)
    return {name for name, value in secrets.items() if value.encode() in seen}


@pytest.mark.parametrize("program", [*PROGRAMS, "supervisor"])
def test_a_program_has_no_secret_in_its_environment_that_it_does_not_need(stack: Stack, program: str) -> None:
    """Kind of fault: a program that reads untrusted input, or nothing at all, holds the keys of another."""
    assert secrets_known(stack, program) == MAY_KNOW.get(program, set())


def test_no_other_user_reads_anything_below_the_state_folder(stack: Stack) -> None:
    """Kind of fault: folders of simulated persons, dbt and locks were open to every user who knew their names."""
    state = stack.config.state
    (state / "truth" / "personal.parquet").write_bytes(b"synthetic")
    (state / "dbt" / "marts").mkdir()
    below = [path for path in state.rglob("*") if not path.is_symlink()]
    assert len(below) > 100
    assert {path.name for path in state.iterdir()} >= {*FOLDERS, "postgres", "env", "lock"}
    ours = [path for path in state.iterdir() if path.name != "postgres"]
    assert {(path.name, oct(path.stat().st_mode & 0o077)) for path in ours} == {(path.name, "0o0") for path in ours}
    if os.geteuid() == 0:
        # PostgreSQL's own user passes through the state folder, and so does any other, but no further.
        script = 'test -x "$0" && echo passes; while IFS= read -r path; do test -r "$path" && echo "$path"; done'
        done = subprocess.run(
            ["sh", "-c", script, str(state)], input="".join(f"{path}\n" for path in below),
            user=STRANGER, group=STRANGER, extra_groups=[], capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stdout == "passes\n"


def test_folders_of_an_earlier_version_are_shut_on_the_next_start(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for name in ("truth", "dbt"):
        (state / name).mkdir(parents=True, mode=0o755)
    (state / "lock").touch(0o644)
    make_folders(load({"SAMPAN_STATE": str(state)}))
    assert stat.S_IMODE(state.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir() if path.is_dir()} == {0o700}
    assert stat.S_IMODE((state / "lock").stat().st_mode) == 0o600


def test_everything_listens_on_loopback_only(stack: Stack) -> None:
    first = stack.config.port("SAMPAN_S3_PORT")
    desk = stack.config.port("SAMPAN_DESK_PORT")
    ours = {stack.config.port("SAMPAN_PG_PORT"), desk, *range(first, first + WEED_PORTS)}
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            port = int(address.rsplit(":", 1)[1], 16)
            if state == "0A" and port in ours:
                listening.add((address.rsplit(":", 1)[0], port))
    assert {port for _, port in listening} >= {stack.config.port("SAMPAN_PG_PORT"), desk, first}
    assert {address for address, _ in listening} == {"0100007F"}


def test_landing_has_the_chosen_name_and_keeps_versions_and_wrong_keys_are_refused(stack: Stack) -> None:
    client = stack.s3.client()
    assert {bucket["Name"] for bucket in client.list_buckets()["Buckets"]} == {
        "drop",
        LANDING,
        "reports",
        "lake",
        s3.PROBE,
    }
    assert client.get_bucket_versioning(Bucket=LANDING)["Status"] == "Enabled"
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3.client(stack.s3.endpoint, stack.config["SAMPAN_S3_ACCESS_KEY"], "wrong").list_buckets()


def test_library_finds_schemas_and_roles_after_up(stack: Stack) -> None:
    with psycopg.connect(stack.dsn("bi_reader")) as connection:
        assert connection.execute("select current_user").fetchone() == ("bi_reader",)
    with psycopg.connect(stack.config["SAMPAN_WAREHOUSE_DSN"]) as connection:
        assert connection.execute("select to_regclass('ops.batch') is not null").fetchone() == (True,)


def test_psql_asks_as_the_role_that_is_named_and_as_the_reader_without_one(stack: Stack) -> None:
    def ask(verb: str, *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "infra.local", verb, *arguments],
            cwd=ROOT,
            # Nothing is on the way: the embedded server's psql has to do.
            env=os.environ | {"SAMPAN_STATE": str(stack.config.state), "PATH": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    assert "bi_reader" in ask("psql", "--sql", "select current_user")[1]
    code, _, said = ask("psql", "--sql", "select * from ops.batch")
    assert (code, "permission denied" in said) == (1, True)
    assert ask("psql", "builder", "--sql", "select count(*) as batches from ops.batch")[:2] == (
        0, " batches \n---------\n       0\n(1 row)\n\n"
    )  # fmt: skip
    assert "permission denied" in ask("psql", "builder", "--sql", "delete from ops.batch")[2]
    assert ask("dsn", "builder")[1] == stack.dsn("sampan_builder") + "\n"
    assert ask("dsn", "admin") == (1, "", "error: no role 'admin'; there are loader, builder, bi\n")


@pytest.mark.parametrize("name", ["postgres", "s3"])
def test_killed_program_comes_back_by_itself_with_its_data(stack: Stack, name: str) -> None:
    stack.s3.client().put_object(Bucket=LANDING, Key=f"kept-{name}", Body=b"kept")
    with psycopg.connect(stack.postgres.dsn()) as connection:
        connection.execute(f"create table public.kept_{name} as select 1 as kept")
    killed = stack.supervisor.states()[name]["pid"]
    os.kill(killed, signal.SIGKILL)
    wait(lambda: stack.supervisor.states()[name]["pid"] not in (0, killed) and stack.probe(name))
    with psycopg.connect(stack.postgres.dsn()) as connection:
        assert connection.execute(f"select kept from public.kept_{name}").fetchone() == (1,)
    wait(lambda: stack.probe("s3"))
    assert stack.s3.client().get_object(Bucket=LANDING, Key=f"kept-{name}")["Body"].read() == b"kept"


def test_program_that_runs_but_does_not_answer_is_restarted(stack: Stack) -> None:
    stopped = stack.supervisor.states()["s3"]["pid"]
    # As the stack's own watch, only less patient: too much so to let a slow start be, so it goes after its first deed.
    command = [sys.executable, "-m", "infra.local", "watch", "--patience", "1", "--pause", "0.2"]
    watch = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"SAMPAN_STATE": str(stack.config.state)})
    try:
        os.kill(stopped, signal.SIGSTOP)
        wait(lambda: stack.supervisor.states()["s3"]["pid"] not in (0, stopped), 120)
    finally:
        watch.kill()
        watch.wait()
    wait(lambda: stack.probe("s3"), 60)


def test_up_heals_after_the_supervisor_was_killed(stack: Stack) -> None:
    orphans = [info["pid"] for info in stack.supervisor.states().values() if info["pid"]]
    assert len(orphans) == len(PROGRAMS)
    os.kill(stack.supervisor.pid(), signal.SIGKILL)
    wait(lambda: stack.supervisor.pid() is None)
    assert stack.up(PROGRAMS, report=lambda _: None) == PROGRAMS
    assert all(stack.probe(name) for name in PROGRAMS)
    assert not [pid for pid in orphans if alive(pid)]


def test_up_says_which_port_is_taken_and_how_to_choose_another(tmp_path: Path) -> None:
    ports = free_ports()
    with socket.socket() as holder:
        holder.bind((HOST, int(ports["SAMPAN_PG_PORT"])))
        holder.listen()
        done = subprocess.run(
            [sys.executable, "-m", "infra.local", "up", "--only", "postgres"],
            cwd=ROOT,
            env=os.environ | ports | {"SAMPAN_STATE": str(tmp_path / "state")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"port {ports['SAMPAN_PG_PORT']} on {HOST} is taken" in done.stderr
    assert "SAMPAN_PG_PORT=<port>" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "state" / "postgres").exists()


def command(
    *arguments: str, state: Path, user: int | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """`python -m infra.local` with nothing in its environment but these variables, as this user or another one."""
    identity = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
    environment = {"PATH": os.environ["PATH"], "HOME": str(state.parent), "SAMPAN_STATE": str(state), **variables}
    return subprocess.run(
        [sys.executable, "-m", "infra.local", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False, **identity,
    )  # fmt: skip


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that stays open: the next session of pytest shuts its own to other users, and the server is one."""
    with tempfile.TemporaryDirectory(prefix="sampan-stack-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def test_every_program_moves_to_a_port_that_is_chosen_after_the_first_start(folder: Path) -> None:
    """Kind of fault: what was written by an earlier start stays in force; `up` then waited for minutes, in vain."""
    state, programs = folder / "state", ("postgres", "s3", "open-data")
    first = command("up", "--only", ",".join(programs), state=state, **free_ports())
    try:
        assert first.returncode == 0, first.stderr
        chosen = free_ports()
        second = command("up", "--only", ",".join(programs), state=state, **chosen)
        assert second.returncode == 0, second.stderr
        stack = Stack(load({"SAMPAN_STATE": str(state)}))
        assert {key: stack.config[key] for key in PORTS} == chosen
        assert [name for name in programs if not stack.probe(name)] == []
        with socket.socket() as holder:
            holder.bind((HOST, 0))
            holder.listen()
            refused = command(
                "up", "--only", ",".join(programs), state=state, SAMPAN_PG_PORT=str(holder.getsockname()[1])
            )
        assert "SAMPAN_PG_PORT=<port>" in refused.stderr
        assert [name for name in programs if not stack.probe(name)] == [], "what ran goes on"
    finally:
        assert command("down", state=state).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start programs as another user")
def test_another_user_starts_a_stack_beside_ours(stack: Stack, folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    os.chown(home, STRANGER, STRANGER)
    for path in (home, ROOT / "infra", Path(sys.executable)):
        open_way(path, STRANGER)
    try:
        subprocess.run([sys.executable, "-c", ""], cwd="/", user=STRANGER, group=STRANGER, extra_groups=[], check=True)
    except PermissionError:
        pytest.skip(f"{Path(sys.executable).resolve()} is closed to other users")
    done = command("up", "--only", ",".join(PROGRAMS), state=home / "state", user=STRANGER, **free_ports())
    try:
        assert done.returncode == 0, done.stderr
        status = command("status", state=home / "state", user=STRANGER).stdout
        assert all(f"{name} " in status for name in PROGRAMS), status
        assert all(stack.probe(name) for name in PROGRAMS), "ours goes on"
    finally:
        assert command("down", state=home / "state", user=STRANGER).returncode == 0
    assert all(stack.probe(name) for name in PROGRAMS)


@pytest.mark.parametrize("port", ["none", "0", "70000", "-1"])
def test_what_is_no_port_is_refused_by_name(tmp_path: Path, port: str) -> None:
    with pytest.raises(StackError, match="SAMPAN_S3_PORT"):
        load({"SAMPAN_STATE": str(tmp_path), "SAMPAN_S3_PORT": port})


def test_own_warehouse_and_s3_take_the_place_of_the_embedded(tmp_path: Path) -> None:
    own = {"SAMPAN_WAREHOUSE_DSN": "host=db.example dbname=w", "SAMPAN_S3_ENDPOINT": "http://s3.example"}
    keys = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "too"}
    config = load({"SAMPAN_STATE": str(tmp_path), **own, **keys})
    assert {key: config[key] for key in (*own, *keys)} == own | keys
    assert "s3" not in Stack(config).programs()
    assert "postgres" in Stack(config).programs(), "Airflow's metadata stay in the embedded server"


def test_chosen_buckets_and_ports_are_remembered_when_the_shell_no_longer_names_them(stack: Stack) -> None:
    again = load({"SAMPAN_STATE": str(stack.config.state)})
    assert again["SAMPAN_LANDING_BUCKET"] == LANDING
    assert again.fingerprint == stack.config.fingerprint


def test_a_folder_in_use_for_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "somebody's").touch()
    with pytest.raises(StackError, match="SAMPAN_STATE"):
        make_folders(load({"SAMPAN_STATE": str(tmp_path)}))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777
    assert [path.name for path in tmp_path.iterdir()] == ["somebody's"]


@pytest.mark.parametrize("name", ["pictures", "site", "dbt_by_hand", "status", "duckdb", "spark", "lineage"])
def test_a_folder_in_which_the_project_wrote_before_the_first_start_is_taken(name: str, tmp_path: Path) -> None:
    """Kind of fault: `make demo` after `make test` took the pictures of its browser tests for somebody's."""
    (tmp_path / name).mkdir()
    make_folders(load({"SAMPAN_STATE": str(tmp_path)}))
    assert (tmp_path / "lock").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"file.*SAMPAN_STATE"):
        make_folders(load({"SAMPAN_STATE": str(tmp_path / "file" / "state")}))


def test_a_folder_that_was_shut_is_opened_and_named(tmp_path: Path, capsys) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    open_way(shut / "data", uid=os.geteuid() + 1)
    assert stat.S_IMODE(shut.stat().st_mode) == 0o701
    assert str(shut) in capsys.readouterr().err
    open_way(shut / "data", uid=os.geteuid() + 1)
    assert str(shut) not in capsys.readouterr().err


def test_another_server_whose_number_a_stale_lock_names_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "postgres").symlink_to(shutil.which("sleep") or "")
    ours = EmbeddedPostgres(tmp_path / "ours", 1)
    ours.directory.mkdir()
    with subprocess.Popen([str(tmp_path / "postgres"), "60"]) as other:
        (ours.directory / "postmaster.pid").write_text(f"{other.pid}\n")
        try:
            # A process that has just begun has no arguments for a moment.
            command = Path(f"/proc/{other.pid}/cmdline")
            while not command.read_bytes():
                time.sleep(0.01)
            assert command.read_bytes().split(b"\0")[0].endswith(b"postgres")
            assert ours.postmaster() is None
        finally:
            other.kill()


def test_keys_for_another_s3_in_the_shell_are_not_used_for_the_embedded(tmp_path: Path) -> None:
    config = load({"SAMPAN_STATE": str(tmp_path), "AWS_ACCESS_KEY_ID": "other", "AWS_SECRET_ACCESS_KEY": "other"})
    assert config["AWS_ACCESS_KEY_ID"] == config["SAMPAN_S3_ACCESS_KEY"] != "other"


def test_down_leaves_no_process_and_no_port_behind(stack: Stack) -> None:
    """Last of this file: it stops the stack that the others share."""
    stack.down()
    assert leftovers(stack.config) == []
    assert stack.postgres.postmaster() is None
    assert not stack.supervisor.socket.exists()
    mentions = [
        entry.name
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and os.fsencode(stack.config.state) in _cmdline(entry)
    ]
    assert mentions == []
    assert stack.status() == [(name, "down", "") for name in stack.programs()]
    assert stack.up(PROGRAMS, report=lambda _: None) == PROGRAMS, "and it starts again"


def _cmdline(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""
