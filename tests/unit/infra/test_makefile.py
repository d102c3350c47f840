"""The verbs of the Makefile, as far as they can be asked for without doing them."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.conftest import ROOT


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_query_with_a_cast_is_a_query_to_make():
    """SQL was also the name of the list of files for the linter: make read `::` of a query as a rule of its own."""
    asked = ["make", "-n", "psql", "SQL=select now()::date"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert 'infra.local psql  --sql "$SQL"' in done.stdout


def test_browser_waits_for_another_who_installs_packages(tmp_path):
    """It gave up at once where somebody else held the lock of the system's packages: on a new machine, its own updates do."""
    for name in ("apt-get", "sudo"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        program.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "infra/local/browser.sh")],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SAMPAN_CHROMIUM": "is-not-there"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (asked,) = [line for line in done.stdout.splitlines() if "install" in line]
    assert "DPkg::Lock::Timeout=" in asked
