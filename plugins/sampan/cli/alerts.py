"""Commands of the alerts, and what monitoring reads: list, acknowledge, silence, send; the status page and the metrics."""

from __future__ import annotations

import getpass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from sampan.calendar import HONG_KONG
from sampan.cli.arguments import Limit, command_group, starting_with
from sampan.cli.output import lists, no_progress, out, table

# Characters that no one guesses.
SHORTEST_TOKEN = 16
group = command_group("What somebody has to know: list, acknowledge, silence, send.")
commands = typer.Typer()

Reason = Annotated[str, typer.Option(help="Why; it is kept with your name.")]


def _causes() -> list[str]:
    from sampan.monitoring.alert_list import causes

    return causes()


@group.command("list")
@lists
def alerts_list(
    everything: Annotated[bool, typer.Option("--all", help="Acknowledged ones too.")] = False, limit: Limit = 20
) -> None:
    """List the newest alerts that no one has acknowledged, and messages that did not get through.

    Example: sampan alerts list
    """
    from sampan.monitoring import alert_list

    rows = [
        tuple(f"{value.astimezone(HONG_KONG):%F %R}" if isinstance(value, datetime) else value for value in row)
        for row in alert_list.newest(limit, everything)
    ]
    table("Alerts", alert_list.COLUMNS, rows, "No alert is open.", key="alerts")
    unsent = [(*row[:5], f"{row[5].astimezone(HONG_KONG):%F %R}", row[6]) for row in alert_list.unfinished()]
    headings = ["message", "to", "channel", "state", "attempts", "made", "problem"]
    table("Messages that were not sent", headings, unsent, "Every message was sent.", key="messages")


@group.command("acknowledge")
def alerts_acknowledge(
    alerts: Annotated[list[int], typer.Argument(help="Numbers of alerts, from `sampan alerts list`.")], reason: Reason
) -> None:
    """Say that you take care of alerts: they are not sent any more, and `sampan status` leaves them out.

    Example: sampan alerts acknowledge 12 13 --reason "asked the partner by phone"
    """
    from sampan.monitoring import alert_list

    count = alert_list.acknowledge(alerts, reason, getpass.getuser())
    out.print(f"{count} acknowledged" + (f"; {len(alerts) - count} were before." if count < len(alerts) else "."))


@group.command("silence")
def alerts_silence(
    cause: Annotated[
        str, typer.Argument(help="A cause, from `sampan alerts list`.", autocompletion=starting_with(_causes))
    ],
    until: Annotated[datetime, typer.Option(help="Hong Kong time at which it ends.")],
    reason: Reason,
) -> None:
    """Send nothing of a cause until a time. It is still raised, listed and shown as broken.

    Example: sampan alerts silence late_at_partner:customs_declarations --until "2026-07-09 09:00:00" --reason "moves house"
    """
    from sampan.monitoring import alert_list

    alert_list.silence(cause, until.replace(tzinfo=HONG_KONG), reason, getpass.getuser())
    out.print(f"Nothing of {cause} is sent before {until:%F %R}, Hong Kong time.", markup=False)


@group.command("send")
def alerts_send(
    again: Annotated[int | None, typer.Option(help="First let this message be sent once more.")] = None,
) -> None:
    """Raise alerts for what has broken or is well again, and send what waits. Airflow does it every ten minutes.

    Example: sampan alerts send
    """
    from sampan.errors import Code, PermanentFailure, Problem
    from sampan.monitoring import send

    if again is not None and not send.again(again):
        message = f"no message {again} failed or is of unknown fate; `sampan alerts list` shows them"
        raise PermanentFailure(Problem(Code.ALERT_UNKNOWN, message))
    done = send.run()
    out.print("alerts: " + ", ".join(f"{count} {what}" for what, count in done.items()))
    if done["failed"]:
        raise typer.Exit(75)


@commands.command("status-page", rich_help_panel="Look")
def status_page(
    file: Annotated[Path | None, typer.Argument(help="Default: SAMPAN_STATUS_PAGE, or in the state folder.")] = None,
) -> None:
    """Write what is broken now, and since when, as a static page in English and Chinese, and beside it a page of all checks.

    Airflow does it every ten minutes.

    Example: sampan status-page status.html
    """
    from sampan.monitoring import page

    out.print(f"wrote {page.write(file)}", markup=False, soft_wrap=True)


@commands.command(rich_help_panel="Look")
def metrics(
    file: Annotated[
        Path | None,
        typer.Option(help="Write them to this file instead, as node_exporter's textfile collector reads it."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Serve them at /metrics until stopped, to who brings SAMPAN_METRICS_TOKEN."
        ),
    ] = None,
) -> None:
    """Print metrics in Prometheus' text format: what is broken, rows, batches, quarantine, age of the release.

    Example: sampan metrics --file /var/lib/node_exporter/sampan.prom
    """
    from sampan.monitoring import metrics as found

    if listen is not None:
        _serve(listen)
        return
    text = found.text()
    if file is None:
        with no_progress():
            print(text, end="")
        return
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(file)


def _serve(listen: str) -> None:
    """Serve the metrics. Raises PermanentFailure without a token, or when it cannot listen there."""
    import uvicorn

    from sampan.errors import Code, PermanentFailure, Problem
    from sampan.monitoring import metrics as found
    from sampan.settings import settings

    token = settings().values.get("SAMPAN_METRICS_TOKEN", "")
    if len(token) < SHORTEST_TOKEN:
        message = (
            f"set SAMPAN_METRICS_TOKEN to {SHORTEST_TOKEN} characters or more: who asks for the metrics has to bring it"
        )
        raise PermanentFailure(Problem(Code.SETTINGS_MISSING, message))
    host, _, port = listen.rpartition(":")
    if not (port.isdigit() and int(port) < 65536):
        raise typer.BadParameter(f"{listen!r} is not HOST:PORT, as 127.0.0.1:9187", param_hint="--listen")
    server = uvicorn.Config(
        found.endpoint(token), host or "127.0.0.1", int(port), log_level="warning", access_log=False
    )
    with no_progress():
        uvicorn.Server(server).run()
