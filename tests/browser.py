"""A real Chromium for tests that look at pages: the system's, by `make browser`. Without it they are skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
# A desk and a telephone.
WIDTHS = (1280, 390)


def chromium() -> str | None:
    """The program, by SAMPAN_CHROMIUM or by name; None when there is none."""
    named = os.environ.get("SAMPAN_CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser. The test that asks is skipped where there is none."""
    program = chromium()
    if program is None:
        pytest.skip("no Chromium: `make browser` installs it, or name it with SAMPAN_CHROMIUM")
    with sync_playwright() as driver:
        # The sandbox needs rights that a container does not give; all pages are our own.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Looked:
    """What a look at a page found: console messages and errors, requests that left the machine, and what axe-core says."""

    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    overflow: int = 0


def tab(browser: Browser, width: int, own: str = "file:") -> tuple[Page, Looked]:
    """A tab of a width, and what is noted of the pages that it shows. `own` is how addresses of our own begin."""
    page, seen = browser.new_page(viewport={"width": width, "height": 900}, accept_downloads=False), Looked()
    page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("requestfailed", lambda request: seen.errors.append(f"{request.url}: {request.failure}"))
    page.on(
        "request",
        lambda request: None if request.url.startswith((own, "data:", "blob:")) else seen.outside.append(request.url),
    )
    return page, seen


def look(page: Page, seen: Looked, url: str, picture: Path) -> None:
    """Show a page, keep a picture of it, and note what axe-core finds and by how many pixels it is too wide."""
    page.goto(url)
    inspect(page, seen, picture)


def inspect(page: Page, seen: Looked, picture: Path) -> None:
    """The same of the page that is shown now."""
    page.screenshot(path=picture, full_page=True)
    seen.overflow = max(seen.overflow, page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
    found: dict[str, Any] = Axe().run(page).response
    for fault in found["violations"]:
        places = [" ".join(node["target"]) for node in fault["nodes"][:3]]
        seen.faults.append(f"{fault['id']}: {fault['help']} at {', '.join(places)}")
