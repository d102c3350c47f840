"""The tutorials, one after the other, followed to the letter on a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from sampan.settings import settings

from tests.conftest import ROOT, Sampan

BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COPIED = ("plugins", "expectations", "dbt_project", "infra", "dags", "docs", "tests/samples")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a newcomer has: the tree, without what a run leaves behind."""
    for name in COPIED:
        skip = shutil.ignore_patterns("__pycache__", "target", "logs")
        shutil.copytree(ROOT / name, tmp_path / "repo" / name, ignore=skip)
    return tmp_path / "repo"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_tutorials_add_a_feed_and_make_a_page_of_it_when_followed_step_by_step(
    checkout: Path, sampan: Sampan, tmp_path: Path
) -> None:
    command = tmp_path / "bin" / "sampan"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sampan.cli "$@"\n')
    command.chmod(0o755)
    environment = os.environ | sampan.environment
    environment |= {"PYTHONPATH": str(checkout / "plugins"), "PATH": f"{command.parent}:{os.environ['PATH']}"}
    files, printed = follow("tutorial-add-a-feed.md", checkout, environment)
    kept = [name for name in files if not name.startswith("work/")]
    assert len(kept) == 2, "a feed is one contract, one sample"
    for told in ("2026-08-04.csv\t3\t", "area.required", "fee_hkd\t28,800\tfee_hkd.type", "1 rows, 1 published"):
        assert told in printed
    assert "hktdc/stg_hktdc__exhibition_booths.sql" in "".join(printed.split()), "the staging model is derived"
    builder = sampan.rows("select area_sqm, stg.* from staging.stg_hktdc__exhibition_booths as stg", role="builder")
    assert len(builder) == 7
    assert not any("9123" in str(row) for row in builder)

    files, printed = follow("tutorial-feed-to-page.md", checkout, environment)
    assert len(files) == 4, "a mart is a model, a description and expectations, a page is a question"
    assert "release 1: " in printed
    assert "staging.stg_hktdc__exhibition_booths.fee_hkd\traw.exhibition_booths.fee_hkd" in printed
    # Seven booths of 9 square metres, one of them 18.5; six have a number, and no register knows any.
    assert sampan.rows(
        "select sme_class, booth_count, exhibitor_count, area_sqm, fee_hkd from marts.mart_exhibition_booths", role="bi"
    ) == [("unknown", 7, 6, Decimal("72.50"), Decimal("232000.00"))]
    assert "## 37. How many booths" in (checkout / "docs" / "questions.md").read_text("utf-8")
    exposures = (checkout / "dbt_project" / "models" / "exposures.yml").read_text("utf-8")
    assert "ref('mart_exhibition_booths')" in exposures
    assert settings().home == ROOT


def follow(page: str, checkout: Path, environment: dict[str, str]) -> tuple[list[str], str]:
    """Do what a page says: write its files, and run its commands. Returns the files, and what was printed."""
    files, printed = [], ""
    for language, name, text in BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        if language != "sh":
            files.append(name)
            (checkout / name).write_text(text, encoding="utf-8")
            continue
        for line in text.strip().splitlines():
            done = subprocess.run(
                ["sh", "-c", line],
                cwd=checkout,
                env=environment,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            printed += done.stdout
    return files, printed
