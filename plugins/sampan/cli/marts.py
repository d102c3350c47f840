"""Commands of the marts: build, release, marts as known on an earlier date."""

from __future__ import annotations

import getpass
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from sampan.cli import report
from sampan.cli.arguments import Mart, command_group, complete_step
from sampan.cli.output import fields, lists, message, no_progress, out, table
from sampan.errors import PermanentFailure

commands = typer.Typer()
marts_group = command_group("The marts: columns that will go.")
release_group = command_group("Releases of the marts: make, list, show, roll back.")
as_known_group = command_group("Marts as known on an earlier date: make, list, drop.")

KnownOn = Annotated[
    str, typer.Option("--date", metavar="YYYY-MM-DD[ HH:MM:SS]", help="A day, or a time of day, in Hong Kong.")
]
Delivered = Annotated[
    bool,
    typer.Option("--delivered", help="Select by business date instead of publishing time: for history loaded late."),
]
Rule = Annotated[str, typer.Argument(help="A rule of it, by name; `sampan release findings` lists them.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept with your name.")]


@commands.command(rich_help_panel="One step at a time")
def build(
    step: Annotated[
        str | None, typer.Argument(help="One step of the build. Default: all.", autocompletion=complete_step)
    ] = None,
    force: Annotated[bool, typer.Option(help="Build even if nothing new was published.")] = False,
    full_refresh: Annotated[bool, typer.Option(help="Rebuild everything from all of raw.")] = False,
) -> None:
    """Build the marts from what was published, with dbt. Readers see nothing of it before the release.

    Example: sampan build
    """
    from sampan.marts import build as builds

    done = builds.run(step, force=force, full_refresh=full_refresh)
    if not done["build_no"]:
        out.print("Nothing new was published; nothing to build.")
        return
    out.print(f"build {done['build_no']}: {done['batches']} new batches, {done['nodes']} nodes run")


@commands.command(rich_help_panel="Day by day")
def refresh(
    force: Annotated[bool, typer.Option(help="Build even if nothing new was published.")] = False,
    full_refresh: Annotated[bool, typer.Option(help="Rebuild everything from all of raw.")] = False,
) -> None:
    """Build, check and release the marts in one go, then write the pages of the release.

    Example: sampan refresh --force
    """
    from sampan.marts import release
    from sampan.report import make

    failure, done = None, {"release_no": 0}
    try:
        done = release.refresh(force=force, full_refresh=full_refresh)
    except PermanentFailure as error:
        # A family that waits: the others may be released, and have pages.
        failure = error
    if done["release_no"]:
        out.print(f"release {done['release_no']}: {done['marts']} marts, {done['rows']:,} rows")
    elif failure is None:
        out.print("Nothing new was published; nothing to release.")
    report.show(make.run())
    if failure is not None:
        raise failure


@commands.command(
    "dbt", rich_help_panel="Look", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def dbt_(context: typer.Context) -> None:
    """Run dbt's own command on the project, as the builder: to list, compile, show or document models, not to build them.

    Example: sampan dbt docs generate --static
    """
    from sampan.marts import dbt

    with no_progress():
        done = dbt.command(context.args)
    if not done:
        raise typer.Exit(1)


@commands.command("data-docs", hidden=True)
def data_docs_(folder: Annotated[Path, typer.Argument(help="Where to write the pages.")]) -> None:
    """Write the status page and that of the gates to a folder: `sampan status-page FOLDER/index.html` does it now.

    Example: sampan data-docs site
    """
    from sampan.monitoring import page

    message(
        "'data-docs FOLDER' is now 'status-page FOLDER/index.html'; the old spelling will not work in the next version"
    )
    out.print(f"wrote {page.write(folder / 'index.html')}")


@marts_group.command("deprecations")
@lists
def marts_deprecations() -> None:
    """List columns that have another name now. The old name goes in the version after the one named.

    Example: sampan marts deprecations
    """
    from sampan.marts.deprecations import deprecations

    rows = [(item.mart, item.column, ", or ".join(item.instead), item.since) for item in deprecations()]
    table("Deprecated columns", ["mart", "column", "use", "since"], rows, "No column is deprecated.")


@release_group.command("run")
def release_run() -> None:
    """Check the marts that were built and, if they pass, show them to the readers, all at once.

    Example: sampan release run
    """
    from sampan.marts import release

    release.gate()
    done = release.run()
    if not done["release_no"]:
        out.print("No build is waiting for its release.")
        return
    out.print(f"release {done['release_no']}: {done['marts']} marts, {done['rows']:,} rows")


@release_group.command("list")
@lists
def release_list() -> None:
    """List the releases that are kept, newest first.

    Example: sampan release list
    """
    from sampan.marts import release

    rows = [
        (item["release_no"], "live" if item["live"] else "", item["as_of_date"], f"{item['released_at']:%F %R}",
         sum(item["rows"].values()))
        for item in release.list_releases()
    ]  # fmt: skip
    table("Releases", ["release", "state", "as of", "released", "rows"], rows, "There is no release yet.")


@release_group.command("show")
@lists
def release_show(release_no: Annotated[int, typer.Argument(help="Number of the release.")]) -> None:
    """Show one release: rows per mart, the batches it took in, what its gate found, when it was live.

    Example: sampan release show 12
    """
    from sampan.marts import release

    found = release.show(release_no)
    fields({key: value for key, value in found.items() if not isinstance(value, dict)})
    for key, value in found.items():
        if isinstance(value, dict):
            table(key, ["name", "count"], sorted(value.items()))


@release_group.command("findings")
@lists
def release_findings() -> None:
    """List critical rules that the newest gate of a mart found broken, and what was decided on each.

    Example: sampan release findings
    """
    from sampan.marts import release

    rows = [
        (item["mart"], item["rule"], item["build_no"], item["description"], item["decision"] or "waits")
        for item in release.findings()
    ]
    table(
        "Critical findings", ["mart", "rule", "build", "what it says", "decision"], rows, "No critical rule is broken."
    )


@release_group.command("accept")
def release_accept(mart: Mart, rule: Rule, reason: Reason) -> None:
    """Accept a critical finding of a mart: it stops no release until the rule is met again.

    Example: sampan release accept mart_festival_uplift net_within_paid --reason "refunds were taken back"
    """
    from sampan.marts import release

    release.decide(mart, rule, "accepted", reason, getpass.getuser())
    out.print(f"accepted {rule} of {mart}; `sampan refresh` releases it at once")


@release_group.command("reject")
def release_reject(mart: Mart, rule: Rule, reason: Reason) -> None:
    """Reject a critical finding of a mart: its family waits, also where the finding was accepted before.

    Example: sampan release reject mart_festival_uplift net_within_paid --reason "two days were delivered twice"
    """
    from sampan.marts import release

    release.decide(mart, rule, "rejected", reason, getpass.getuser())
    out.print(f"rejected {rule} of {mart}: releases have its family's marts of the release before")


@release_group.command("revise")
def release_revise(month: Annotated[str, typer.Argument(metavar="YYYY-MM")], reason: Reason) -> None:
    """Let the next build publish a month of the published tables again, with what was declared or withdrawn since.

    Who keeps both releases can subtract them: for a month that was published wrong.

    Example: sampan release revise 2026-06 --reason "half of the declarations were delivered twice"
    """
    from sampan.marts import published

    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError:
        raise typer.BadParameter(f"{month!r} is not a month such as 2026-06", param_hint="MONTH") from None
    cells = published.revise(first, reason, getpass.getuser())
    out.print(f"{month}: {cells:,} cells will be published again; `sampan refresh --force` does it at once")


@release_group.command("rollback")
def release_rollback(
    release_no: Annotated[int | None, typer.Argument(help="A kept release. Default: the one before.")] = None,
) -> None:
    """Show an earlier release again; nothing is rebuilt.

    Example: sampan release rollback 11
    """
    from sampan.marts import release

    out.print(f"Readers see release {release.rollback(release_no)['release_no']} now.")


@as_known_group.command("run")
def as_known_run(day: KnownOn, delivered: Delivered = False) -> None:
    """Build all marts as known on a date, in their own schema; the live release does not change.

    Example: sampan as-known-on run --date 2026-07-31
    """
    from sampan.marts import as_known

    done = as_known.run(*_known_on(day, delivered))
    out.print(f"{done['schema']}: {done['marts']} marts, {done['rows']:,} rows, from {done['batches']} batches")
    if done["deleted"]:
        out.print(f"Not included: {done['deleted']} batches known then, which retention has deleted since.")


@as_known_group.command("list")
@lists
def as_known_list() -> None:
    """List the dates as known on which there are marts, newest first.

    Example: sampan as-known-on list
    """
    from sampan.marts import as_known

    rows = [
        (item["schema"], item["known_on"], item["basis"],
         f"{item['made_at']:%F %R}" if item["made_at"] else "in progress", sum(item["rows"].values()))
        for item in as_known.list_snapshots()
    ]  # fmt: skip
    table("As known on", ["schema", "known on", "basis", "made", "rows"], rows, "There are none.")


@as_known_group.command("drop")
def as_known_drop(day: KnownOn, delivered: Delivered = False) -> None:
    """Drop the marts as known on a date.

    Example: sampan as-known-on drop --date 2026-07-31
    """
    from sampan.marts import as_known

    schema = as_known.schema_of(*_known_on(day, delivered))
    as_known.drop(schema)
    out.print(f"dropped {schema}")


def _known_on(text: str, delivered: bool) -> tuple[date | datetime, str]:
    """The day or time that was given, and the basis."""
    try:
        known_on = date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"cannot read {text!r}: write a day such as 2026-07-31, or a time such as '2026-07-31 18:00:00'"
        ) from None
    return known_on, "delivered" if delivered else "published"
