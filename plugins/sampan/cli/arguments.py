"""Arguments and options that several commands share."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

import typer

Feed = Annotated[str, typer.Argument(help="A feed, by the name of its contract.")]
Day = Annotated[datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="One business date. Default: all.")]
Limit = Annotated[int, typer.Option(help="Show at most this many rows.")]


def command_group(help_: str) -> typer.Typer:
    """A group of commands; without a command it prints its help."""
    return typer.Typer(no_args_is_help=True, help=help_)


def day_of(value: datetime | None) -> date | None:
    """The day of an option that may be missing."""
    return value.date() if value else None
