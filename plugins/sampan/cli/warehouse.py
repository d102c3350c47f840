"""Commands of the warehouse itself, and of the logins of those who read it."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from sampan.cli.arguments import command_group
from sampan.cli.output import lists, out, table

commands = typer.Typer()
roles_group = command_group("Logins of people who read the warehouse: add, drop, list.")

Login = Annotated[str, typer.Argument(help="Name of the person's login.")]


@commands.command(rich_help_panel="Set up")
def init(
    force: Annotated[
        bool, typer.Option("--force", help="Apply every statement again, even if nothing has changed.")
    ] = False,
) -> None:
    """Create or update the roles, schemas and tables that the contracts need.

    Example: sampan init
    """
    from sampan.warehouse import schema

    gaps = schema.apply_schema(force, getpass.getuser())
    out.print("The warehouse is ready.")
    if gaps:
        out.print(
            "Still open, because the role that runs `sampan init` may not close it on this server:", soft_wrap=True
        )
        for gap in gaps:
            out.print(f"  {gap}", markup=False, highlight=False, soft_wrap=True)
        out.print(f"A superuser closes it: {schema.SERVER}, then `sampan init` again.", markup=False, soft_wrap=True)


@roles_group.command("add-login")
def add_login(
    login: Login,
    role: Annotated[
        str,
        typer.Option(
            help="What the person reads: bi_reader, policy_reader, public_reader, steward_<partner> or bank_<id>."
        ),
    ],
) -> None:
    """Make a login for a person. Its password is printed once, or is that of SAMPAN_LOGIN_PASSWORD.

    Example: sampan roles add-login wong_ka_yan --role bank_b014
    """
    from sampan.warehouse import logins

    password = logins.add(login, role)
    out.print(
        f"{login} reads as {role}." + (f" Password: {password}" if password else ""), markup=False, highlight=False
    )


@roles_group.command("drop-login")
def drop_login(login: Login) -> None:
    """Drop a person's login and end its sessions.

    Example: sampan roles drop-login wong_ka_yan
    """
    from sampan.warehouse import logins

    out.print(f"{login} is dropped; sessions ended: {logins.drop(login)}.", markup=False, highlight=False)


@roles_group.command("list")
@lists
def list_logins() -> None:
    """List the logins of people: what each reads, and its sessions.

    Example: sampan roles list
    """
    from sampan.warehouse import logins

    headings = ["login", "reads as", "sessions allowed", "sessions now"]
    table("Logins", headings, logins.list_logins(), "No person has a login.")
