"""Commands of the requests that people make at the desks."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from sampan.cli.arguments import Limit, command_group
from sampan.cli.output import lists, out, table

group = command_group("What people asked for at the desks: list, carry out, decide.")

Number = Annotated[int, typer.Argument(help="Number of the request, from `requests list`.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the decision.")]


@group.command("list")
@lists
def requests_list(
    state: Annotated[str | None, typer.Option(help="asked, waiting, done, refused or failed. Default: all.")] = None,
    limit: Limit = 50,
) -> None:
    """List requests, the newest first.

    Example: sampan requests list --state asked
    """
    from sampan import requests

    headings = ["id", "action", "feed", "state", "by", "asked at", "reason", "outcome"]
    rows = [(number, action, feed or "", *others) for number, action, feed, *others in requests.requests(state, limit)]
    table("Requests", headings, rows, "There is no request.")


@group.command("undecided")
@lists
def requests_undecided(limit: Limit = 50) -> None:
    """List what waits for an operator: held batches, critical findings of marts, proposed links. `limit` of each at most.

    Example: sampan requests undecided
    """
    from sampan import requests

    rows = [(item.key, item.title, item.text) for item in requests.undecided(limit)]
    table("Undecided", ["what", "question", "why"], rows, "Nothing waits for a decision.")


@group.command("run")
def requests_run() -> None:
    """Carry out what waits, in the names of those who asked. The DAG `requests` does it as soon as somebody asks.

    Example: sampan requests run
    """
    from sampan import requests

    ended = requests.run()
    for one in ended:
        out.print(f"request {one.request_id} ({one.action}) {one.state}: {one.outcome}", markup=False, highlight=False)
    if any(one.state == "failed" for one in ended):
        raise typer.Exit(1)


@group.command("accept")
def requests_accept(request_id: Number, reason: Reason) -> None:
    """Accept what a steward asks for, and carry it out.

    Example: sampan requests accept 12 --reason "checked with the bureau"
    """
    from sampan import requests

    out.print(requests.decide(request_id, True, reason, getpass.getuser()), markup=False)


@group.command("reject")
def requests_reject(request_id: Number, reason: Reason) -> None:
    """Refuse what a steward asks for.

    Example: sampan requests reject 12 --reason "the bureau delivers the file again"
    """
    from sampan import requests

    out.print(requests.decide(request_id, False, reason, getpass.getuser()), markup=False)
