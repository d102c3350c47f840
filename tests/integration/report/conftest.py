"""The pages of the simulated world, written once. The world's tests belong to one group, so that it is made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from sampan.report import answers, pages
from sampan.settings import settings

from tests.conftest import ROOT
from tests.integration.world import Simulated

# Pictures of the pages, for people to look at.
PICTURES = ROOT / ".sampan" / "pictures" / "answers"


@dataclass(frozen=True)
class Site:
    """The pages of a release in a folder, and the answers that they were written from."""

    folder: Path
    found: answers.Answers


@pytest.fixture(scope="session")
def site(world: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The pages of the live release of the world."""
    folder = tmp_path_factory.mktemp("answers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(world.environment, "SAMPAN_SYNTHETIC", "yes")
        with world.installed():
            number = answers.live()
            assert number is not None
            found = answers.read(number)
            pages.write(folder, found, None)
    settings.cache_clear()
    return Site(folder, found)
