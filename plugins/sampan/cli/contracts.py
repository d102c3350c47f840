"""Commands of the contracts: check them, list them, and write what is derived from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sampan import progress
from sampan.cli.arguments import Feed, command_group, feeds, starting_with
from sampan.cli.output import lists, no_progress, out, table
from sampan.contracts.model import FEEDS, PARTNERS
from sampan.text import did_you_mean, indented

group = command_group("The contracts of the feeds, and the files derived from them.")


def complete_contract(incomplete: str) -> list[str]:
    """Feeds that begin with what was typed, and files of contracts where that is a path."""
    files = [str(path) for path in Path().glob(f"{incomplete}*")] if "/" in incomplete else []
    return [feed for feed in feeds() if feed.startswith(incomplete)] + files


complete_policy = starting_with(lambda: sorted(path.stem for path in PARTNERS.glob("*.yaml")))


@group.command("check")
def contracts_check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Contract files, or feeds. Default: all.", autocompletion=complete_contract),
    ] = None,
) -> None:
    """Report errors in contracts, with file, line and reason, and derived files that are out of date.

    Example: sampan contracts check expectations/feeds/customs_declarations.yaml
    """
    from sampan.contracts import derive
    from sampan.contracts.registry import all_contracts
    from sampan.contracts.validate import check, check_all
    from sampan.report import derived

    files = [FEEDS / f"{file}.yaml" if str(file) in feeds() else file for file in files or []]
    each = progress.each(files, lambda file: file.stem)
    problems = [problem for file in each for problem in check(file)] if files else check_all()
    stale = [] if files or problems else [*derive.check(), *derived.check()]
    with no_progress():
        for found in (*problems, *stale):
            print(indented(str(found)))
    if problems or stale:
        raise typer.Exit(1)
    count = len(files or all_contracts())
    out.print("1 contract is valid." if count == 1 else f"{count} contracts are valid.")


@group.command("list")
@lists
def contracts_list() -> None:
    """List the feeds with their partners, sources, schedules and policies.

    Example: sampan contracts list
    """
    from sampan.contracts.registry import all_contracts

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
    from sampan.contracts import derive
    from sampan.contracts.registry import get_contract

    print(derive.odcs(get_contract(feed)), end="")


@group.command("policy")
def contracts_policy(
    name: Annotated[
        str | None,
        typer.Argument(
            help="loader, reporter, analyst, or a partner that delivers files. Default: loader.",
            autocompletion=complete_policy,
        ),
    ] = None,
) -> None:
    """Print what a user of the object store may do, as an IAM policy for the configured buckets.

    Example: sampan contracts policy customs
    """
    from sampan.contracts import store_policy
    from sampan.settings import settings

    now = settings()
    known = store_policy.policies(now.drop_bucket, now.landing_bucket, now.report_bucket, now.lake_bucket)
    name = name or store_policy.LOADER
    if name not in known:
        message = f"no policy {name!r}{did_you_mean(name, known, 'there are')}"
        raise typer.BadParameter(message, param_hint="NAME")
    print(json.dumps(known[name], indent=2))


@group.command("derive")
def contracts_derive() -> None:
    """Write derived files: dbt sources, staging models and exposures, data dictionary, problem codes, the page of questions.

    Example: sampan contracts derive
    """
    from sampan.contracts import derive
    from sampan.report import derived

    for path in [*derive.write(), *derived.write()]:
        out.print(f"wrote {path}")
