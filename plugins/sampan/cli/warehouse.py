"""Commands of the warehouse itself."""

from __future__ import annotations

from typing import Annotated

import typer

from sampan.cli.output import out
from sampan.warehouse import schema

commands = typer.Typer()


@commands.command()
def init(
    force: Annotated[
        bool, typer.Option("--force", help="Apply every statement again, even if nothing has changed.")
    ] = False,
) -> None:
    """Create or update the roles, schemas and tables that the contracts need.

    Example: sampan init
    """
    schema.apply_schema(force)
    out.print("The warehouse is ready.")
