"""dbt's command, in a process of its own: for a dbt that has no Python API, or that needs an environment of its own.

What it cannot say is the SQLSTATE of an error: no failure is transient, and a failed step waits for someone to run it again.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sampan.errors import Code, PermanentFailure, Problem
from sampan.marts.dbt.results import NodeResult, StepResult, without_rows
from sampan.processes import end_with

# Files in the target folder: all that the command says.
ANSWERS = ("--write-json",)
LONGEST_ERROR = 2000
# Runs a command with its options in an environment: whether it succeeded, and what it said.
Call = Callable[[Sequence[str], Sequence[str], Mapping[str, str]], tuple[bool, str]]


class CommandLine:
    """Runs commands by `call`. Each parses the project in the name of `schema`: a look-back has its own."""

    def __init__(self, call: Call, schema: str) -> None:
        self._call = call
        self._schema = schema
        self._project: dict[str, Any] = {}

    def run(self, command: Sequence[str], options: Sequence[str]) -> StepResult:
        """Run a command of dbt (`build` and what it selects) with its options."""
        results = _target(options) / "run_results.json"
        results.unlink(missing_ok=True)
        is_done, said = self._run(command, options)
        nodes = json.loads(results.read_text("utf-8"))["results"] if results.exists() else []
        return StepResult(tuple(map(_node_result, nodes)), "" if is_done or nodes else _why(said))

    def project(self, options: Sequence[str]) -> Mapping[str, Any]:
        """The parsed project, in the form of manifest.json. Raises PermanentFailure when dbt cannot read it."""
        if not self._project:
            is_done, said = self._run(["parse"], options)
            if not is_done:
                raise PermanentFailure(Problem(Code.BUILD_FAILED, _why(said)))
            self._project = json.loads((_target(options) / "manifest.json").read_text("utf-8"))
        return self._project

    def _run(self, command: Sequence[str], options: Sequence[str]) -> tuple[bool, str]:
        return self._call(command, [*options, *ANSWERS], os.environ | {"SAMPAN_DBT_SCHEMA": self._schema})


def in_a_process(executable: str) -> Call:
    """Runs each command by an executable."""

    def call(command: Sequence[str], options: Sequence[str], environment: Mapping[str, str]) -> tuple[bool, str]:
        done = subprocess.run(
            [executable, *command, *options], env=environment, capture_output=True, text=True, check=False,
            # One that works on after its builder was killed would write beside the next one.
            preexec_fn=partial(end_with, os.getpid()),
        )  # fmt: skip
        return not done.returncode, done.stdout.strip() or done.stderr.strip()

    return call


def command(executable: str, arguments: Sequence[str]) -> bool:
    """Run any command of dbt; whether it succeeded."""
    end_with_this = partial(end_with, os.getpid())
    return subprocess.run([executable, *arguments], check=False, preexec_fn=end_with_this).returncode == 0


def _why(said: str) -> str:
    """Why dbt failed, in its own words."""
    return (without_rows(said) or "dbt failed")[-LONGEST_ERROR:]


def _target(options: Sequence[str]) -> Path:
    return Path(options[options.index("--target-path") + 1])


def _node_result(result: Mapping[str, Any]) -> NodeResult:
    return NodeResult.of(
        result["unique_id"],
        result["status"],
        result["execution_time"],
        result["adapter_response"],
        result["failures"],
        result["message"],
    )
