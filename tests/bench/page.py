"""What a benchmark writes to its page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def written(folder: Path, module: str, begin: str, end: str, *options: str) -> str:
    """The page after a benchmark has run, with little to measure. What stood around its part is as before."""
    page = folder / "benchmarks.md"
    page.write_text(f"# Before\n{begin}\nold\n{end}\nafter\n")
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{module}", *options, "--write", str(page)],
        cwd=ROOT,
        env=os.environ | {"SAMPAN_BENCH_PAUSE": "0"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    return text
