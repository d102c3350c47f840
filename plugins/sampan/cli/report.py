"""Commands of what a release comes to and from: its pages, and its lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sampan.cli.output import lists, out, table

if TYPE_CHECKING:
    from sampan.report import make

commands = typer.Typer()


@commands.command(rich_help_panel="Day by day")
def report(
    release_no: Annotated[
        int | None, typer.Option("--release", metavar="NUMBER", help="A kept release. Default: the live one.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Make the pages again if they are there.")] = False,
) -> None:
    """Write the answers of a release as static pages in English and Chinese, for a browser or to print.

    Example: sampan report
    """
    from sampan.report import make

    show(make.run(release_no, again=force))


@commands.command(rich_help_panel="Day by day")
@lists
def lineage(
    column: Annotated[
        str | None, typer.Argument(metavar="[MART.COLUMN]", help="Show what this column is made from, down to files.")
    ] = None,
    release_no: Annotated[
        int | None, typer.Option("--release", metavar="NUMBER", help="A kept release. Default: the live one.")
    ] = None,
) -> None:
    """Say what a column of a mart is made from; without one, send OpenLineage events from file to mart column to page.

    Events go where OpenLineage's own settings say (OPENLINEAGE_URL and others), or into a file. Takes a minute.

    Example: sampan lineage mart_exports_monthly.value_hkd
    """
    from sampan.report import answers
    from sampan.report import lineage as made_from

    number = release_no or answers.live()
    if number is None:
        out.print("There is no release yet.")
    elif column is None:
        count, file = made_from.send(number)
        out.print(f"release {number}: {count} events" + (f" in {file}" if file else ""), soft_wrap=True)
    else:
        rows = [
            (f"{place[0]}.{place[1]}", ", ".join(f"{table}.{name}" for table, name in sorted(sources)) or "files")
            for place, sources in made_from.trace(number, column).items()
        ]
        table("Lineage", ["column", "made from"], rows)


def show(made: make.Made) -> None:
    """Say what was made and where it is."""
    if not made.release_no:
        out.print("There is no release yet, and no pages.")
        return
    if made.files:
        out.print(f"release {made.release_no}: {made.files} files of pages in {made.seconds:.1f} s")
    out.print(str(made.path), soft_wrap=True)
