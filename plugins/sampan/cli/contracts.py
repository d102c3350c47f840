"""Commands of the contracts: check them, list them, and write what is derived from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sampan.cli.arguments import Feed, command_group
from sampan.cli.output import out, table
from sampan.contracts import derive, store_policy
from sampan.contracts.registry import all_contracts, get_contract
from sampan.contracts.validate import check, check_all
from sampan.report import questions
from sampan.settings import settings
from sampan.text import indented

group = command_group("The contracts of the feeds, and the files derived from them.")


@group.command("check")
def contracts_check(
    files: Annotated[list[Path] | None, typer.Argument(help="Contract files. Default: all.")] = None,
) -> None:
    """Report errors in contracts, with file, line and reason, and derived files that are out of date.

    Example: sampan contracts check expectations/feeds/customs_declarations.yaml
    """
    problems = [problem for file in files for problem in check(file)] if files else check_all()
    for problem in problems:
        print(indented(str(problem)))
    stale = [] if files or problems else [*derive.check(), *questions.check()]
    for what in stale:
        print(indented(str(what)))
    if problems or stale:
        raise typer.Exit(1)
    out.print(f"{len(files or all_contracts())} contracts are valid.")


@group.command("list")
def contracts_list() -> None:
    """List the feeds with their partners, sources, schedules and policies.

    Example: sampan contracts list
    """
    rows = [
        (c.feed, c.partner, f"{c.source.kind} {c.source.extension}", f"{c.calendar.days} {c.calendar.due}",
         f"{c.budget:.1%}", c.corrections, c.drift)
        for c in all_contracts().values()
    ]  # fmt: skip
    table("Feeds", ["feed", "partner", "source", "due", "budget", "corrections", "drift"], rows)


@group.command("show")
def contracts_show(feed: Feed) -> None:
    """Print the complete ODCS document of a contract, with the partner's defaults and short forms expanded.

    Example: sampan contracts show customs_declarations
    """
    print(derive.odcs(get_contract(feed)), end="")


@group.command("policy")
def contracts_policy(
    name: Annotated[
        str, typer.Argument(help="loader, reporter, or a partner that delivers files.")
    ] = store_policy.LOADER,
) -> None:
    """Print what a user of the object store may do, as an IAM policy for the configured buckets.

    Example: sampan contracts policy customs
    """
    known = store_policy.policies(settings().drop_bucket, settings().landing_bucket, settings().report_bucket)
    if name not in known:
        raise typer.BadParameter(f"no policy {name!r}; there are {', '.join(known)}", param_hint="NAME")
    print(json.dumps(known[name], indent=2))


@group.command("derive")
def contracts_derive() -> None:
    """Write derived files: dbt sources and staging models, data dictionary, problem codes, the page of questions.

    Example: sampan contracts derive
    """
    for path in [*derive.write(), *questions.write()]:
        out.print(f"wrote {path}")
