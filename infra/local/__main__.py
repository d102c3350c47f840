"""`python -m infra.local`: the local stack's verbs, which the Makefile calls."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from typing import Annotated

import typer

from infra.local.backup import DAYS
from infra.local.config import StackError

MOMENTS = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"]

app = typer.Typer(add_completion=False, no_args_is_help=True, help="The embedded local stack.")


@app.command()
def up(only: Annotated[str, typer.Option(help="Comma-separated programs; all when not given.")] = "") -> None:
    """Start what is not running, heal what is broken, and wait until all of it answers."""
    from infra.local.stack import Stack

    stack = Stack()
    started = stack.up([name for name in only.split(",") if name], report=lambda line: print(line, flush=True))
    print("the stack is up" if started else "the stack was up already; nothing to do")


@app.command()
def down() -> None:
    """Stop every program of the stack; what it stored stays."""
    from infra.local.stack import Stack

    Stack().down()
    print("the stack is down")


@app.command()
def backup(
    days: Annotated[int, typer.Option(help="Days back that a moment can be restored from.", min=1)] = DAYS,
) -> None:
    """Copy the running PostgreSQL into SAMPAN_BACKUPS, and delete backups and log that are past their term."""
    from infra.local.stack import Stack

    stack = Stack()
    for expired in stack.backup(days):
        print(f"deleted {expired.name}, past its term")
    print("kept: " + ", ".join(f"{end:%Y-%m-%d %H:%M:%S} UTC" for end, _ in stack.backups.kept()))


@app.command()
def restore(
    at: Annotated[datetime, typer.Option(help="Moment, in Hong Kong time.", formats=MOMENTS)],
) -> None:
    """Bring PostgreSQL back to a moment since the oldest backup; the stack has to be down."""
    from sampan.calendar import HONG_KONG

    from infra.local.stack import Stack

    before = Stack().restore(at.replace(tzinfo=HONG_KONG))
    print(
        f"PostgreSQL is as it was at {at:%Y-%m-%d %H:%M:%S}. What it held before is in {before}: delete it in the end."
    )
    print("Now follow docs/runbook.md, After a restore: what was deleted and revoked since has to be so again.")


@app.command()
def bi(
    person: Annotated[str, typer.Option(help="Someone more who may log in.")] = "",
    reads: Annotated[str, typer.Option(help="What the person reads: bi_reader, policy_reader or bank_<id>.")] = "",
) -> None:
    """Start Superset with the platform's dashboards, and print where it is and who may log in."""
    from infra.local.config import make_folders, private_folder
    from infra.local.stack import INIT, SUPERSET, Stack

    stack = Stack()
    make_folders(stack.config)
    private_folder(stack.superset.folder)
    if person:
        stack.up(["postgres"])
        stack.superset.add(person, reads, stack.environment(INIT))
    stack.up(["postgres", SUPERSET], report=lambda line: print(line, flush=True))
    print(f"Superset: {stack.superset.address} (English, 繁體中文)")
    for name, entry in stack.superset.people().items():
        print(f"  {name:20} {entry['password']:20} reads as {entry['reads']}")
    print(f"  {'sampan':20} {stack.config['SAMPAN_SUPERSET_PASSWORD']:20} administers Superset, reads no figure")


@app.command()
def status() -> None:
    """State of every program; exit code 1 unless all are healthy."""
    from rich.console import Console
    from rich.table import Table

    from infra.local.stack import Stack

    table = Table("program", "state", "detail")
    rows = Stack().status()
    for name, state, detail in rows:
        table.add_row(name, f"[{'green' if state == 'healthy' else 'red'}]{state}", detail)
    Console().print(table)
    raise typer.Exit(0 if all(state == "healthy" for _, state, _ in rows) else 1)


@app.command()
def demo() -> None:
    """Deliver 29 synthetic months, run every DAG, and show what came out."""
    from rich.console import Console

    from infra.local.demo import Demo

    Demo(Console()).run()


@app.command()
def logins() -> None:
    """Print where each person of the demo looks, with login and password."""
    from rich.console import Console

    from infra.local import people
    from infra.local.demo import doors
    from infra.local.stack import Stack

    stack = Stack()
    if not people.known(stack.config.state):
        raise StackError("the demo's people have no logins yet: run `make demo` first")
    # Nothing is cut or folded, so that it can be copied.
    Console(width=200).print(doors(stack, passwords=True))


@app.command()
def tick(days: Annotated[int, typer.Option(help="Business days, one after the other.", min=1)] = 1) -> None:
    """Let the next business day of the demo begin, and wait for its release."""
    from rich.console import Console

    from infra.local.demo import Demo

    for _ in range(days):
        Demo(Console()).tick()


Role = Annotated[
    str, typer.Argument(help="bi reads the marts; builder reads ops, raw and quarantine too; loader also writes there.")
]


@app.command()
def dsn(role: Role = "bi") -> None:
    """Print the connection string of a role, with its password, for BI tools and psql."""
    print(_dsn(role))


@app.command()
def psql(role: Role = "bi", sql: Annotated[str, typer.Option(help="One query; a session without it.")] = "") -> None:
    """Open the warehouse as a role, with the machine's psql, or the embedded server's where there is none."""
    import shutil

    from psycopg.conninfo import conninfo_to_dict

    from infra.local.postgres import binaries

    # Not on the command line, which everybody on the machine can read.
    names = {"dbname": "PGDATABASE"}
    parts = {names.get(key, f"PG{key.upper()}"): str(value) for key, value in conninfo_to_dict(_dsn(role)).items()}
    command = shutil.which("psql") or str(binaries() / "psql")
    os.execvpe(command, [command, *(["--command", sql] if sql else [])], os.environ | parts)  # noqa: S606


def _dsn(role: str) -> str:
    from sampan.settings import ROLES

    from infra.local.stack import Stack

    stack = Stack()
    if not stack.config.env_file.exists():
        raise StackError("there is no stack yet: run `make up` first")
    if role not in ROLES:
        raise StackError(f"no role {role!r}; there are {', '.join(ROLES)}")
    return stack.dsn(ROLES[role])


@app.command(hidden=True)
def watch(
    patience: Annotated[float, typer.Option(help="Seconds without an answer.")] = 90.0,
    pause: Annotated[float, typer.Option(help="Seconds between looks.")] = 10.0,
) -> None:
    """Restart programs that run but do not answer; one of the stack's programs."""
    from infra.local.stack import Stack

    Stack().watch(patience, pause)


@app.command(name="exec", context_settings={"ignore_unknown_options": True}, hidden=True)
def execute(program: str, command: Annotated[list[str], typer.Argument()]) -> None:
    """Become a program of the stack, after ending what an earlier life of it left behind."""
    from infra.local.stack import Stack
    from infra.local.supervise import end_leftovers

    stack = Stack()
    end_leftovers(stack.config, program)
    os.execvpe(command[0], command, stack.environment(program))  # noqa: S606


@app.command(context_settings={"ignore_unknown_options": True})
def run(command: Annotated[list[str], typer.Argument(help="For example: airflow dags list")]) -> None:
    """Run a command with the stack's settings, for example `airflow dags list`."""
    from infra.local.stack import Stack

    environment = Stack().environment()
    environment["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), environment.get("PATH", "")])
    os.execvpe(command[0], command, environment)  # noqa: S606


def main() -> None:
    """Entry point: what went wrong is said in words."""
    # What the stack stores is for the person who runs it.
    os.umask(0o077)
    try:
        app()
    except (StackError, PermissionError) as error:
        from sampan.text import printable

        # It may quote logs, and they partners.
        print(printable(f"error: {error}"), file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
