"""dbt's command, in a process of its own: for a dbt that has no Python API, or that needs an environment of its own.

What it cannot say is the SQLSTATE of an error: no failure is transient, and a failed step waits for someone to run it again.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sampan.errors import Code, PermanentFailure, Problem
from sampan.marts.dbt.results import NodeResult, StepResult, without_rows
from sampan.reading.child import end_with

# Files in the target folder: all that the command says.
ANSWERS = ("--write-json",)
LONGEST_ERROR = 2000


class CommandLine:
    """Runs `executable`. It parses the project in the name of the schema of a look-back, for every command that it runs."""

    def __init__(self, executable: str, schema: str) -> None:
        self._executable = executable
        self._schema = schema
        self._project: dict[str, Any] = {}

    def run(self, command: Sequence[str], options: Sequence[str]) -> StepResult:
        """Run a command of dbt (`build` and what it selects) with its options."""
        results = _target(options) / "run_results.json"
        results.unlink(missing_ok=True)
        done = self._call([*command, *options, *ANSWERS])
        nodes = json.loads(results.read_text("utf-8"))["results"] if results.exists() else []
        return StepResult(tuple(map(_node_result, nodes)), _said(done) if done.returncode and not nodes else "")

    def project(self, options: Sequence[str]) -> Mapping[str, Any]:
        """The parsed project, in the form of manifest.json. Raises PermanentFailure when dbt cannot read it."""
        if not self._project:
            done = self._call(["parse", *options, *ANSWERS])
            if done.returncode:
                raise PermanentFailure(Problem(Code.BUILD_FAILED, _said(done)))
            self._project = json.loads((_target(options) / "manifest.json").read_text("utf-8"))
        return self._project

    def _call(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"SAMPAN_DBT_SCHEMA": self._schema}
        return subprocess.run(
            [self._executable, *arguments], env=environment, capture_output=True, text=True, check=False,
            # One that works on after its builder was killed would write beside the next one.
            preexec_fn=partial(end_with, os.getpid()),
        )  # fmt: skip


def command(executable: str, arguments: Sequence[str]) -> bool:
    """Run any command of dbt; whether it succeeded."""
    return subprocess.run([executable, *arguments], check=False).returncode == 0


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """Why dbt failed, in its own words."""
    return (without_rows(done.stdout.strip() or done.stderr.strip()) or "dbt failed")[-LONGEST_ERROR:]


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
