"""Pages of the world in a real browser, at the widths of a desk and of a telephone: one of each kind, and slowly all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from sampan.report.questions import Question, all_questions
from sampan.report.words import raw

from tests.browser import WIDTHS, browsing, look, tab
from tests.integration.report.conftest import PICTURES, Site
from tests.integration.world import Simulated

QUESTIONS = all_questions()
FOLDERS = ("en", "zh-Hant")
# Bars by series, an interval, a festival's platforms, counts instead of rows of enterprises.
KINDS = [question for question in QUESTIONS if question.number in (2, 14, 13, 18)]
SOME = pytest.mark.parametrize(
    "questions", [pytest.param(KINDS, id="kinds"), pytest.param(QUESTIONS, id="all", marks=pytest.mark.slow)]
)
pytestmark = pytest.mark.xdist_group("world")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@SOME
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_page_loads_fits_and_can_be_read_by_everyone(
    width: int, folder: str, questions: list[Question], site: Site, browser: Browser, world: Simulated
):
    page, seen = tab(browser, width)
    PICTURES.mkdir(parents=True, exist_ok=True)
    wrong = {}
    for name in ["index", *(question.name for question in questions)]:
        seen.errors.clear(), seen.outside.clear(), seen.faults.clear()
        seen.overflow = 0
        look(page, seen, (site.folder / folder / f"{name}.html").as_uri(), PICTURES / f"{folder}-{name}-{width}.png")
        if seen.errors or seen.outside or seen.faults or seen.overflow > 0:
            wrong[name] = vars(seen) | {"errors": [*seen.errors], "faults": [*seen.faults], "outside": [*seen.outside]}
    assert wrong == {}
    page.close()


@SOME
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_figures_that_a_person_sees_are_those_of_sql(
    folder: str, questions: list[Question], site: Site, browser: Browser, world: Simulated
):
    page, _ = tab(browser, WIDTHS[0])
    for question in questions:
        page.goto((site.folder / folder / f"{question.name}.html").as_uri())
        cells = page.eval_on_selector_all(
            "tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.querySelector('data')?.value ?? ''))"
        )
        assert cells == [[raw(value) for value in row] for row in world.read(question.shown)[:100]], question.number
        for picture in page.locator("img").all():
            assert picture.evaluate("image => image.complete && image.naturalWidth > 300"), question.number
    page.close()


def test_a_page_is_read_with_the_keyboard_and_keeps_its_place_in_the_other_language(site: Site, browser: Browser):
    page, _ = tab(browser, WIDTHS[1])
    name = f"{QUESTIONS[1].name}.html"
    page.goto((site.folder / "en" / name).as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left >= 0")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "scroll":
            break
    else:
        pytest.fail("the table cannot be reached, and scrolled, with the keyboard")
    page.get_by_role("link", name="繁體中文").click()
    assert page.url.endswith(f"/zh-Hant/{name}")
    assert page.title().startswith(f"2. {QUESTIONS[1].title['zh']}")
    page.get_by_role("link", name="English").click()
    assert page.url.endswith(f"/en/{name}")
    page.close()


def test_a_page_is_printed_to_a4(site: Site, browser: Browser):
    page, _ = tab(browser, WIDTHS[0])
    page.goto((site.folder / "en" / f"{QUESTIONS[0].name}.html").as_uri())
    PICTURES.mkdir(parents=True, exist_ok=True)
    printed = page.pdf(path=PICTURES / "printed.pdf", prefer_css_page_size=True)
    assert b"/MediaBox [0 0 594.95996 841.91998]" in printed or b"/MediaBox [0 0 595" in printed
    page.emulate_media(media="print")
    assert not page.get_by_role("link", name="繁體中文").is_visible()
    assert page.locator("tbody tr").last.is_visible()
    page.close()
