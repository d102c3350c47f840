"""The `sampan` command without a warehouse: its help, its version, and the spellings that it still understands."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import sampan
import typer.main
from sampan.cli import app
from typer.core import TyperCommand, TyperGroup


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
