"""Arguments and options that several commands share, and what a shell completes them with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated

import typer

from sampan.contracts.model import FEEDS
from sampan.settings import HOME


def starting_with(names: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """What completes an argument: those names that begin with what was typed."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def feeds() -> list[str]:
    """Every feed, by name; no contract is read."""
    return sorted(path.stem for path in FEEDS.glob("*.yaml"))


def marts() -> list[str]:
    """Every mart of the project, by name."""
    return sorted(path.stem for path in (HOME / "dbt_project" / "models" / "marts").rglob("*.sql"))


def steps() -> list[str]:
    """Every step of a build, in order."""
    from sampan.marts.dbt import step_names

    return list(step_names())


complete_feed, complete_mart, complete_step = map(starting_with, (feeds, marts, steps))

Feed = Annotated[str, typer.Argument(help="A feed, by the name of its contract.", autocompletion=complete_feed)]
Feeds = Annotated[list[str] | None, typer.Argument(help="Feeds. Default: all.", autocompletion=complete_feed)]
Mart = Annotated[str, typer.Argument(help="A mart, by name.", autocompletion=complete_mart)]
Day = Annotated[datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="One business date. Default: all.")]
Limit = Annotated[int, typer.Option(help="Show at most this many rows.")]


def command_group(help_: str) -> typer.Typer:
    """A group of commands; without a command it prints its help."""
    return typer.Typer(no_args_is_help=True, help=help_)


def day_of(value: datetime | None) -> date | None:
    """The day of an option that may be missing."""
    return value.date() if value else None
