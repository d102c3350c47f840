"""The command of the pages: make them for a release, and say where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sampan.cli.output import out

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


def show(made: make.Made) -> None:
    """Say what was made and where it is."""
    if not made.release_no:
        out.print("There is no release yet, and no pages.")
        return
    if made.files:
        out.print(f"release {made.release_no}: {made.files} files of pages in {made.seconds:.1f} s")
    out.print(str(made.path), soft_wrap=True)
