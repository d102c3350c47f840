"""Whether a command that a page or a help text names is one that there is."""

from __future__ import annotations

import typer.main
from sampan.cli.app import app
from sampan.settings import HOME, read_yaml


def assert_is_command(words: list[str]) -> None:
    """Fail unless there are such a command, options, and rule of a mart to decide on; `words` follow `sampan`."""
    command, left = typer.main.get_command(app), list(words)
    known = {option for param in command.params for option in param.opts}
    while hasattr(command, "commands") and left:
        word = left.pop(0)
        if word.startswith("-"):
            assert word in known, words
            continue
        assert word in command.commands, words
        command = command.commands[word]
    if not command.context_settings.get("ignore_unknown_options"):
        options = {option for param in command.params for option in (*param.opts, *param.secondary_opts)} | {"--help"}
        assert {word.split("=")[0].strip("[],.;") for word in left if word.startswith("--")} <= options, words
    if words[:2] in (["release", "accept"], ["release", "reject"]) and len(words) > 3 and words[2] != "<mart>":
        rules = read_yaml(HOME / "expectations" / "marts" / f"{words[2]}.yaml")["quality"]
        assert words[3] in {rule["name"] for rule in rules}, words
