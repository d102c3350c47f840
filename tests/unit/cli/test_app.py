"""The `sampan` command without a warehouse: its help, its version, and the spellings that it still understands."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import sampan
import typer.main
from rich.console import Console
from sampan import progress
from sampan.cli import app, arguments, output
from sampan.contracts.registry import feed_names
from typer.core import TyperCommand, TyperGroup

from tests.unit.cli.spelled import assert_is_command


def commands(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ROOT = typer.main.get_command(app.app)
COMMANDS = {" ".join(path): command for path, command in commands(ROOT)}


def test_commands_are_found():
    assert {"load", "ingest", "release run", "identity review accept", "partitions compact", "share"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_command_says_what_it_does_and_gives_an_example(name):
    first, *others = (COMMANDS[name].help or "").split("\n\n")
    assert first.endswith(".")
    assert len(first) < 130
    (example,) = [part for part in others if part.startswith("Example: ")]
    assert example.startswith(f"Example: sampan {name}")
    assert_is_command(example.removeprefix("Example: sampan ").split())


def test_version_is_the_library_s(capsys, monkeypatch):
    monkeypatch.setattr("os.umask", lambda mask: mask)
    monkeypatch.setattr("sys.excepthook", sys.excepthook)
    monkeypatch.setattr("sys.argv", ["sampan", "--version"])
    with pytest.raises(SystemExit) as end:
        app.main()
    assert (end.value.code, capsys.readouterr().out) == (0, f"sampan {sampan.__version__}\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("load trade --again", "load trade --retry-held"),
        ("init --again", "init --force"),
        ("retention run --most", "retention run --allow-mass-delete"),
        ("retention merge", "partitions compact"),
        ("transfer contract C-1 --bank 1", "transfer agreement C-1 --bank 1"),
        ("transfer filed C-1 --on 2026-07-01", "transfer record-filing C-1 --on 2026-07-01"),
        ("share mart --to A --contract=C-1 --into f", "share mart --to A --agreement=C-1 --into f"),
    ],
)
def test_old_spelling_is_understood_and_reported(old, new, capsys):
    assert app.current_spelling(old.split()) == new.split()
    assert "will not work in the next version" in capsys.readouterr().err
    assert app.current_spelling(new.split()) == new.split()
    assert capsys.readouterr().err == ""


def test_every_renamed_spelling_has_a_command_and_an_option():
    assert {" ".join(new) for new in app.RENAMED_COMMANDS.values()} <= set(COMMANDS)
    for (command, old), new in app.RENAMED_OPTIONS.items():
        options = {
            option
            for name, found in COMMANDS.items()
            if name.split()[0] == command
            for parameter in found.params
            for option in parameter.opts
        }
        assert new in options
        assert old not in options


HEAVY = {"boto3", "dbt", "duckdb", "great_expectations", "httpx", "jsonschema", "numpy", "polars", "psycopg", "yaml"}


def test_start_imports_nothing_that_only_a_command_needs():
    """Kind of fault: a version, a help page or a completion waits for libraries of everything."""
    code = "import sys, sampan.cli.app; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & HEAVY == set()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("sampan load customs_decl", ["customs_declarations"]),
        ("sampan status cdi", [name for name in feed_names() if name.startswith("cdi")]),
        ("sampan contracts show quality", [name for name in feed_names() if name.startswith("quality")]),
        ("sampan contracts check customs_decl", ["customs_declarations"]),
        ("sampan share mart_published", [name for name in arguments.marts() if name.startswith("mart_published")]),
        ("sampan build marts__tr", ["marts__trade"]),
        ("sampan contracts policy cust", ["customs"]),
        ("sampan quar", ["quarantine"]),
    ],
)
def test_a_shell_completes_commands_feeds_marts_and_contracts(words, wanted):
    variables = {"_SAMPAN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    command = [sys.executable, "-c", "import sys; sys.argv = ['sampan']; from sampan.cli.app import main; main()"]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True)
    assert wanted
    assert done.stdout.split() == wanted


@pytest.fixture
def terminal(monkeypatch) -> io.StringIO:
    """What work of any length draws on standard error, which is a terminal."""
    written = io.StringIO()

    class Screen(Console):
        def __init__(self, **options: object) -> None:
            super().__init__(file=written, force_terminal=True, width=100)

    monkeypatch.setattr(output, "Console", Screen)
    monkeypatch.setattr(output, "PROGRESS_AFTER", 0.0)
    return written


def test_work_shows_what_it_is_at_and_makes_way_for_what_is_printed(terminal, capsys):
    with output.working("ingest"):
        time.sleep(0.3)
        progress.report("load customs_declarations", 3, 28)
        time.sleep(0.3)
        output.out.print("load customs_declarations: 1 batches, 0 held")
        time.sleep(0.3)
    assert "ingest: load customs_declarations" in terminal.getvalue()
    assert "3 of 28" in terminal.getvalue()
    assert capsys.readouterr().out == "load customs_declarations: 1 batches, 0 held\n"


def test_nothing_is_drawn_when_standard_error_is_piped(monkeypatch, capsys):
    monkeypatch.setattr(output, "PROGRESS_AFTER", 0.0)
    with output.working("ingest"):
        progress.report("load customs_declarations", 3, 28)
        time.sleep(0.3)
    assert capsys.readouterr() == ("", "")


def test_groups_and_commands_are_in_the_order_of_work():
    names = list(ROOT.commands)
    steps = ["fetch", "land", "load", "gate", "publish", "build"]
    assert [name for name in names if name in steps] == steps
    assert names[0] == "status"
    assert "sampan status" in (ROOT.epilog or "")


def test_quiet_and_verbose_change_what_is_said_of_a_failure():
    def said(*options: str) -> str:
        code = "import sys; from sampan.cli.app import main; main()"
        command = [sys.executable, "-c", code, *options, "contracts", "show", "custom_declaration"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr

    plain = said()
    assert plain.startswith("sampan: no feed 'custom_declaration'; did you mean customs_declarations?")
    assert plain.count("\n") == 1
    assert said("-q") == plain
    assert "Traceback" in said("-v")
    assert said("-v").endswith(plain)
