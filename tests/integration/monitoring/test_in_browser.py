"""The status page and that of the gates in a real browser at both widths, with something broken."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest
from playwright.sync_api import Browser
from sampan.calendar import HONG_KONG
from sampan.ingest import freshness
from sampan.monitoring import page as status_page
from sampan.settings import settings

from tests.browser import WIDTHS, browsing, look, tab
from tests.conftest import ROOT
from tests.factory import DAY, rows
from tests.integration.desk.test_operator import deliver_held
from tests.integration.monitoring.test_gates import build

# Pictures of the pages, for people to look at.
PICTURES = ROOT / ".sampan" / "pictures" / "status"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


def test_both_pages_can_be_read_by_everyone_and_lead_to_each_other(partner, browser, tmp_path, monkeypatch):
    monkeypatch.setenv("SAMPAN_SYNTHETIC", "yes")
    settings.cache_clear()
    freshness.set_clock(datetime(2026, 7, 7, 12, tzinfo=HONG_KONG))
    deliver_held(partner)
    partner.hands_over("business_register", DAY, rows("business_register", 40))
    partner.ingest("business_register")
    build(1, True, False)
    file = status_page.write(tmp_path / "index.html")
    PICTURES.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        page, seen = tab(browser, width)
        look(page, seen, file.as_uri(), PICTURES / f"status-{width}.png")
        page.get_by_role("link", name="All checks at the gates").click()
        assert page.get_by_text("not met").first.is_visible()
        look(page, seen, page.url, PICTURES / f"gates-{width}.png")
        page.get_by_role("link", name="What is broken now").click()
        assert page.url == file.as_uri()
        assert (seen.errors, seen.outside, seen.faults, seen.overflow) == ([], [], [], 0)
        page.close()
