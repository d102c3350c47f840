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

import typer

import sampan
from sampan.cli import (
    alerts,
    calendar,
    consent,
    contracts,
    governance,
    identity,
    ingest,
    marts,
    quarantine,
    report,
    requests,
    status,
    warehouse,
)
from sampan.cli.output import LogHandler, message, message_of, working
from sampan.errors import SampanError, TransientFailure
from sampan.text import OneLineFormatter, printable

EXAMPLES = "\n\n".join(
    [
        "Examples:",
        "sampan status",
        "sampan ingest customs_declarations",
        "sampan quarantine show customs_declarations --csv > rows.csv",
        "sampan release list --json",
    ]
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__, epilog=EXAMPLES)
# In the order of work, which is that of the help.
app.add_typer(status.commands)
app.add_typer(ingest.commands)
app.add_typer(marts.commands)
app.add_typer(report.commands)
for _name, _group, _panel in (
    ("alerts", alerts.group, "Day by day"),
    ("requests", requests.group, "Decide"),
    ("quarantine", quarantine.group, "Decide"),
    ("release", marts.release_group, "Decide"),
    ("identity", identity.group, "Decide"),
    ("calendar", calendar.group, "Decide"),
    ("consent", consent.group, "Decide"),
    ("marts", marts.marts_group, "Look"),
    ("as-known-on", marts.as_known_group, "Look"),
    ("retention", governance.retention_group, "Govern"),
    ("partitions", governance.partitions_group, "Govern"),
    ("lake", governance.lake_group, "Govern"),
    ("transfer", governance.transfer_group, "Govern"),
    ("contracts", contracts.group, "Set up"),
    ("roles", warehouse.roles_group, "Set up"),
):
    app.add_typer(_group, name=_name, rich_help_panel=_panel)
app.add_typer(governance.commands)
app.add_typer(alerts.commands)
app.add_typer(warehouse.commands)

NOISY = ("botocore", "boto3", "httpx", "great_expectations")
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
    handler = LogHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        app(current_spelling(sys.argv[1:]))
    except SampanError as error:
        if logging.getLogger("sampan").isEnabledFor(logging.DEBUG):
            print_exception(type(error), error, error.__traceback__)
        message(message_of(error))
        sys.exit(75 if isinstance(error, TransientFailure) else 1)
    except Exception as error:
        if not is_schema_missing(error):
            raise
        message(f"{error}; run `sampan init`")
        sys.exit(1)


def is_schema_missing(error: Exception) -> bool:
    """Whether a statement failed because `sampan init` has not made, or not updated, what it names."""
    if "psycopg" not in sys.modules:
        return False
    from psycopg import errors

    return isinstance(error, errors.UndefinedTable | errors.UndefinedColumn | errors.InvalidSchemaName)


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
    context: typer.Context,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only warnings and errors on standard error, no progress.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also times, requests, and stack traces of failures.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=print_version)
    ] = False,
) -> None:
    """Options of the command itself."""
    if quiet:
        logging.getLogger().setLevel(logging.WARNING)
    elif verbose:
        logging.getLogger("sampan").setLevel(logging.DEBUG)
        for noisy in NOISY:
            logging.getLogger(noisy).setLevel(logging.INFO)
        for handler in logging.getLogger().handlers:
            handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    if not quiet and context.invoked_subcommand is not None:
        context.with_resource(working(context.invoked_subcommand))


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
