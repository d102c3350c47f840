"""Commands of the consents that let banks read credit features."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from sampan import consent
from sampan.cli.arguments import command_group
from sampan.cli.output import field, out

group = command_group("Consents that let banks read: show, revoke.")

Consent = Annotated[str, typer.Argument(help="A consent id: CS and ten digits.")]


@group.command("show")
def consent_show(consent_id: Consent) -> None:
    """Show one consent: its bank, purpose, end, and which kinds of data it allows now.

    Example: sampan consent show CS0000000001
    """
    for key, value in consent.describe(consent_id).items():
        field(key, ", ".join(value) or "none" if isinstance(value, list) else value)


@group.command("revoke")
def consent_revoke(
    consent_id: Consent,
    reason: Annotated[str, typer.Option(help="Who asked for it, and how; kept with the revocation.")],
) -> None:
    """Revoke a consent now and for good: from the bank's next query on, its rows are not visible.

    Example: sampan consent revoke CS0000000001 --reason "the owner rang"
    """
    new = consent.revoke(consent_id, reason, getpass.getuser())
    out.print(f"Revoked {consent_id}." if new else f"{consent_id} was revoked before.")
