"""The pages of the site: every document, mart and feed is among them, and a reader finds it in the menu."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from sampan.contracts.derive import mart_models
from sampan.contracts.registry import all_contracts
from sampan.settings import HOME, settings

from infra.site.__main__ import CONFIG, _cell, write_pages

NO_WAREHOUSE = "postgresql://sampan_admin@127.0.0.1:1/sampan"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("LOADER", "BUILDER", "BI"):
        monkeypatch.setenv(f"SAMPAN_{name}_PASSWORD", "x")
    monkeypatch.setenv("SAMPAN_WAREHOUSE_DSN", NO_WAREHOUSE)
    monkeypatch.setenv("SAMPAN_SYNTHETIC", "no")
    settings.cache_clear()
    write_pages(tmp_path)
    settings.cache_clear()
    return tmp_path


def listed(menu: Any) -> set[str]:
    """Every page of a menu."""
    if isinstance(menu, str):
        return {menu}
    return {page for part in (menu.values() if isinstance(menu, dict) else menu) for page in listed(part)}


def test_every_document_mart_and_feed_has_a_page_that_the_menu_leads_to(site):
    pages = {str(page.relative_to(site / "pages")) for page in (site / "pages").rglob("*.md")}
    documents = {str(page.relative_to(HOME)) for page in [*HOME.glob("*.md"), *HOME.glob("docs/**/*.md")]}
    named = {f"docs/dictionary/{name}.md" for name in [*(model["name"] for model in mart_models()), *all_contracts()]}
    assert pages == documents | named | {"docs/dictionary/joins.md"}
    assert listed(yaml.safe_load((site / CONFIG).read_text("utf-8"))["nav"]) == pages


def test_a_page_of_a_mart_has_its_columns_joins_and_no_rows_that_may_not_be_shown(site):
    exports = (site / "pages/docs/dictionary/mart_exports_monthly.md").read_text("utf-8")
    assert "| `value_hkd` |" in exports
    assert "- `market_csd_code` with [dim_market](dim_market.md)" in exports
    assert "None: this mart is not for publication." in exports
    published = (site / "pages/docs/dictionary/mart_published_exports.md").read_text("utf-8")
    assert "None: the warehouse did not answer" in published


def test_a_link_to_anything_but_a_page_is_text(site):
    first = (site / "pages/README.md").read_text("utf-8")
    assert "](LICENSE)" in (HOME / "README.md").read_text("utf-8")
    assert "](LICENSE)" not in first
    assert "](docs/start/policy.md)" in first


@pytest.mark.parametrize(
    "text",
    [
        "[x](javascript:alert(1))", "![x](https://evil.example/pixel.png)", "<script>alert(1)</script>", "a | b", "`code`",
        "*a* __b__", "x{: onclick=alert(1) }", "&lt;b&gt;", "https://evil.example", "[[x]]", "\\| b",
    ],
)  # fmt: skip
def test_a_value_of_an_example_is_text_and_nothing_else(text):
    """A partner may have chosen it: in Markdown it could be a link that runs a script, or an image that tells who reads."""
    assert re.fullmatch("(?:&#[0-9]+;|[A-Za-z0-9 ,./-])+", _cell(text))
    assert html.unescape(_cell(text)) == text
