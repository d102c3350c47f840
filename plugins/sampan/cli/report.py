"""Commands of what a release comes to and from: its pages, and its lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sampan.cli.output import lists, out, table
from sampan.errors import Code, PermanentFailure, Problem

if TYPE_CHECKING:
    from sampan.report import make

commands = typer.Typer()
lineage_group = typer.Typer(no_args_is_help=True, help="What a release is made from: show, send.")
commands.add_typer(lineage_group, name="lineage", rich_help_panel="Look")
ReleaseNo = Annotated[
    int | None, typer.Option("--release", metavar="NUMBER", help="A kept release. Default: the live one.")
]


@commands.command(rich_help_panel="Day by day")
def report(
    release_no: ReleaseNo = None,
    force: Annotated[bool, typer.Option(help="Make the pages again if they are there.")] = False,
) -> None:
    """Write the answers of a release as static pages in English and Chinese, for a browser or to print.

    Example: sampan report
    """
    from sampan.report import make

    show(make.run(release_no, again=force))


@lineage_group.command("show")
@lists
def lineage_show(
    column: Annotated[str, typer.Argument(metavar="MART.COLUMN", help="A column of a mart.")],
    release_no: ReleaseNo = None,
) -> None:
    """Show what a column of a mart is made from, column by column, down to the feeds.

    Example: sampan lineage show mart_exports_monthly.value_hkd
    """
    from sampan.report import lineage

    made_from = lineage.trace(_kept(release_no), column)
    rows = [
        (".".join(place), ", ".join(map(".".join, sorted(sources))) or "files") for place, sources in made_from.items()
    ]
    table("Lineage", ["column", "made from"], rows)


@lineage_group.command("send")
def lineage_send(release_no: ReleaseNo = None) -> None:
    """Send OpenLineage events of a release, from file to mart column to page. Takes a minute.

    They go where OpenLineage's own settings say (OPENLINEAGE_URL and others), or else into a file.

    Example: sampan lineage send
    """
    from sampan.report import lineage

    number = _kept(release_no)
    count, file = lineage.send(number)
    out.print(f"release {number}: {count} events" + (f" in {file}" if file else ""), soft_wrap=True)


def _kept(release_no: int | None) -> int:
    from sampan.report import answers

    number = release_no or answers.live()
    if number is None:
        raise PermanentFailure(Problem(Code.RELEASE_UNKNOWN, "there is no release yet"))
    return number


def show(made: make.Made) -> None:
    """Say what was made and where it is."""
    if not made.release_no:
        out.print("There is no release yet, and no pages.")
        return
    if made.files:
        out.print(f"release {made.release_no}: {made.files} files of pages in {made.seconds:.1f} s")
    out.print(str(made.path), soft_wrap=True)
