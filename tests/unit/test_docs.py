"""The pages: every link leads somewhere, and every path, command and rule that they name is in the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sampan.settings import HOME

from tests.pictures import MOST, PICTURES
from tests.unit.cli.spelled import assert_is_command

PAGES = sorted([*HOME.glob("*.md"), *HOME.glob("docs/**/*.md")])
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
SHOWN = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:\.ci|\.github|dags|dbt_project|docs|expectations|infra|plugins|tests)/[\w./-]+)`")
# In the text, where it may go on in the next line, and as a line of its own in an example.
COMMAND = re.compile(r"`sampan ([^`]+)`|^ *sampan ([^#|>\n]+)", re.MULTILINE)
VERB = re.compile(r"`make ([a-z-]+)")
VERBS = set(re.findall(r"^([a-z-]+):", (HOME / "Makefile").read_text(), re.MULTILINE))


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOME)))
def test_page_links_and_names_only_what_is_in_the_repository(page):
    text = page.read_text()
    for file, anchor in LINK.findall(text):
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), file
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), f"{file}#{anchor}"
    if page.name not in {"CHANGELOG.md", "tutorial-add-a-feed.md"}:
        missing = [path for path in NAMED.findall(text) if not (HOME / path).exists()]
        assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOME)))
def test_page_names_only_commands_options_and_verbs_that_there_are(page):
    if page.name != "CHANGELOG.md":
        assert set(VERB.findall(page.read_text())) <= VERBS
        for in_text, in_example in COMMAND.findall(page.read_text()):
            assert_is_command((in_text or in_example).replace("\\\n", " ").split())


def test_pictures_are_shown_with_words_listed_and_small():
    shown = [picture for page in PAGES for picture in SHOWN.findall(page.read_text())]
    assert len(shown) > 20
    assert [file for words, file in shown if len(words) < 10] == [], "who does not see it reads the words"
    kept = {path.stem: path.stat().st_size for path in (HOME / "docs" / "pictures").iterdir()}
    assert set(kept) == set(PICTURES)
    assert sum(kept.values()) < MOST
    assert {Path(file).stem for _, file in shown} >= set(kept)


def test_pages_are_found():
    assert {"README.md", "CONTRIBUTING.md", "architecture.md"} <= {page.name for page in PAGES}
