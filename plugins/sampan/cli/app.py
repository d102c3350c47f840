"""The `sampan` command: each step of the refresh by hand, through the functions that the DAGs call.

Exit codes: 0 done; 1 permanent failure (bad data, a wrong contract, an unknown feed); 2 wrong usage; 75 transient failure
(try again).
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Annotated

import psycopg
import typer

import sampan
from sampan.cli import calendar, consent, contracts, governance, identity, ingest, marts, quarantine, report, warehouse
from sampan.cli.output import message, message_of
from sampan.errors import SampanError, TransientFailure
from sampan.text import OneLineFormatter, printable

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
for _commands in (ingest.commands, warehouse.commands, marts.commands, report.commands, governance.commands):
    app.add_typer(_commands)
for _name, _group in (
    ("quarantine", quarantine.group),
    ("marts", marts.marts_group),
    ("release", marts.release_group),
    ("as-known-on", marts.as_known_group),
    ("contracts", contracts.group),
    ("calendar", calendar.group),
    ("identity", identity.group),
    ("consent", consent.group),
    ("retention", governance.retention_group),
    ("partitions", governance.partitions_group),
    ("roles", warehouse.roles_group),
    ("transfer", governance.transfer_group),
):
    app.add_typer(_group, name=_name)

# Spellings of the version before. They work in this version too, and go with the next one.
RENAMED_COMMANDS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("retention", "merge"): ("partitions", "compact"),
    ("transfer", "contract"): ("transfer", "agreement"),
    ("transfer", "filed"): ("transfer", "record-filing"),
}
RENAMED_OPTIONS = {
    ("init", "--again"): "--force",
    ("load", "--again"): "--retry-held",
    ("retention", "--most"): "--allow-mass-delete",
    ("share", "--contract"): "--agreement",
}


def main() -> None:
    """Run the command. A failure that Sampan raises on purpose is one message, not a stack trace."""
    # What a command writes is for the person who runs it.
    os.umask(0o077)
    sys.excepthook = print_exception
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("botocore", "boto3", "httpx", "great_expectations"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        app(current_spelling(sys.argv[1:]))
    except SampanError as error:
        message(message_of(error))
        sys.exit(75 if isinstance(error, TransientFailure) else 1)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName) as error:
        message(f"{error.diag.message_primary}; run `sampan init`")
        sys.exit(1)


def print_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the stack trace of an error that was not foreseen, without control characters."""
    print(printable("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def print_version(wanted: bool) -> None:
    """Print the version and end the command, if that is wanted."""
    if wanted:
        print(f"sampan {sampan.__version__}")
        raise typer.Exit


@app.callback(help=__doc__)
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=print_version)
    ] = False,
) -> None:
    """Options of the command itself."""


def current_spelling(arguments: Sequence[str]) -> list[str]:
    """The arguments with renamed commands and options in their new spelling; each is reported on standard error."""
    words = [*RENAMED_COMMANDS.get(tuple(arguments[:2]), arguments[:2]), *arguments[2:]]
    for position, word in enumerate(words[1:], 1):
        name, equals, value = word.partition("=")
        words[position] = RENAMED_OPTIONS.get((words[0], name), name) + equals + value
    for old, new in zip(arguments, words, strict=True):
        if old != new:
            message(f"{old!r} is now {new!r}; the old spelling will not work in the next version")
    return words
