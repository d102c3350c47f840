"""Commands of the consents that let banks read credit features."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from sampan.cli.arguments import command_group
from sampan.cli.output import fields, lists, out, table

group = command_group("Consents that let banks read: show, revoke; what is suspended, and lift it.")

Consent = Annotated[str, typer.Argument(help="A consent id: CS and ten digits.")]


@group.command("show")
@lists
def consent_show(consent_id: Consent) -> None:
    """Show one consent: its bank, purpose, end, and which kinds of data it allows now.

    Example: sampan consent show CS0000000001
    """
    from sampan import consent

    fields(consent.describe(consent_id))


@group.command("revoke")
def consent_revoke(
    consent_id: Consent,
    reason: Annotated[str, typer.Option(help="Who asked for it, and how; kept with the revocation.")],
) -> None:
    """Revoke a consent now and for good: from the bank's next query on, its rows are not visible.

    Example: sampan consent revoke CS0000000001 --reason "the owner rang"
    """
    from sampan import consent

    new = consent.revoke(consent_id, reason, getpass.getuser())
    out.print(f"Revoked {consent_id}." if new else f"{consent_id} was revoked before.")


@group.command("suspended")
@lists
def consent_suspended() -> None:
    """List the consents that are suspended because a row, batch or file that names them did not get through.

    Example: sampan consent suspended
    """
    from sampan import consent

    rows = [
        (number, f"{since:%Y-%m-%d %H:%M:%S}", f"batch {batch} of {day}" if batch else f"refused file {etag}", line)
        for number, since, batch, day, line, etag in consent.suspended()
    ]
    table("Suspended consents", ["consent", "since", "read off", "line"], rows, "No consent is suspended.")


@group.command("lift")
def consent_lift(
    consents: Annotated[list[str] | None, typer.Argument(help="Consent ids: CS and ten digits.")] = None,
    batch: Annotated[int | None, typer.Option(help="Lift all that was read off this batch.")] = None,
    reason: Annotated[str, typer.Option(help="How it is known that no revocation was lost; kept with it.")] = "",
) -> None:
    """Lift suspensions: banks read under the consents again, unless these were revoked or ended.

    Example: sampan consent lift CS0000000001 --reason "the bank's consent desk confirmed it by mail"
    """
    from sampan import consent

    count = consent.lift(consents or [], batch, reason, getpass.getuser())
    out.print(f"Lifted the suspension of {count} consents.")
