"""The documents as a site with search: `make site`.

What `docs/` and the pages beside the README say, and of the data dictionary a page per mart and feed. A mart's page shows
what it joins and some of its rows, if the warehouse can be reached: all marts' where data are synthetic, else only those
that may be published.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg import sql
from sampan.contracts.derive import describe_feed, describe_mart, mart_models
from sampan.contracts.registry import all_contracts
from sampan.database import connect
from sampan.errors import SampanError
from sampan.settings import HOME, settings
from sampan.text import spreadsheet_text

ROWS = 3
# What Markdown or HTML may read as more than text: punctuation of ASCII but , - . and /
MARKUP = re.compile(r"[!-+:-@\[-`{-~]")
# Longest value of an example.
WIDTH = 40
LINK = re.compile(r"\[([^\]]*)\]\((?!https?://|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
CONFIG, STYLE = "mkdocs.yml", "style.css"
START = {
    "policy": ("In a policy team", "政策人員"),
    "analyst": ("An analyst", None),
    "engineer": ("An engineer on call", None),
    "steward": ("A data steward at a partner", "合作機構資料管理員"),
    "bank": ("A bank", "銀行"),
}
Joins = dict[str, list[tuple[str, str]]]


def build(folder: Path) -> Path:
    """Write the site to a folder. Returns its first page. Raises CalledProcessError when a link leads nowhere."""
    shutil.rmtree(folder, ignore_errors=True)
    write_pages(folder)
    program = HOME / ".venv-site" / "bin" / "zensical"
    environment = os.environ | {"NO_COLOR": "1"}
    subprocess.run([program, "build", "--strict", "--config-file", CONFIG], cwd=folder, env=environment, check=True)
    return folder / "site" / "index.html"


def write_pages(folder: Path) -> None:
    """Write the site's pages as Markdown, and its configuration."""
    pages = folder / "pages"
    dictionary = pages / "docs" / "dictionary"
    dictionary.mkdir(parents=True)
    for page in [
        *HOME.glob("*.md"),
        *(page for kind in ("md", "svg", "webp") for page in HOME.glob(f"docs/**/*.{kind}")),
    ]:
        target = pages / page.relative_to(HOME)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, target)
    marts, feeds, joins = {model["name"]: model for model in mart_models()}, all_contracts(), find_joins()
    for name, model in marts.items():
        rows = examples(name, model)
        _write(dictionary / f"{name}.md", name, [*describe_mart(model), *_joins_of(joins.get(name, [])), *rows])
    for name, contract in feeds.items():
        _write(dictionary / f"{name}.md", name, describe_feed(contract))
    _write(dictionary / "joins.md", "What joins what", _matrix(joins))
    by_family = defaultdict(list)
    for name, model in marts.items():
        by_family[model["family"]].append(name)
    _write(pages / "docs" / "data-dictionary.md", "Data dictionary", _contents(by_family, marts))
    for page in pages.rglob("*.md"):
        page.write_text(_relink(page), "utf-8")
    (pages / STYLE).write_text("td code { white-space: nowrap; }\n", "utf-8")
    config = _config(by_family, list(feeds), pages)
    (folder / CONFIG).write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), "utf-8")


def find_joins() -> Joins:
    """What each mart joins: its columns and the table that says what their values are."""
    found = {}
    for model in mart_models():
        of_mart = []
        for column in model["columns"]:
            for test in column.get("data_tests") or ():
                if isinstance(test, dict) and "relationships" in test:
                    table = re.findall(r"ref\('(\w+)'\)", test["relationships"]["arguments"]["to"])
                    of_mart += [(column["name"], name) for name in table if name.startswith("dim_")]
        if of_mart:
            found[model["name"]] = of_mart
    return found


def examples(name: str, model: dict[str, Any]) -> list[str]:
    """Some rows of a mart, as lines of Markdown: none where they may not be shown, or the warehouse does not answer."""
    title, names = ["## Examples", ""], [column["name"] for column in model["columns"]]
    if not (settings().synthetic or model.get("config", {}).get("meta", {}).get("disclosure") == "publishable"):
        return [*title, "None: this mart is not for publication.", ""]
    query = sql.SQL("select {} from {} limit {}").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier("marts", name), ROWS
    )
    try:
        with connect("bi") as connection:
            rows = connection.execute(query).fetchall()
    except (SampanError, psycopg.Error):
        return [*title, "None: the warehouse did not answer, or has no release, when this page was made.", ""]
    label = ["Synthetic: no enterprise, person or figure is real.", ""] if settings().synthetic else []
    # Columns as lines: a mart has more of them than a page is wide.
    lines = [f"| `{column}` | {' | '.join(map(_cell, values))} |" for column, *values in zip(names, *rows, strict=True)]
    head = [f"| column |{' |' * len(rows)}", f"| --- |{' --- |' * len(rows)}"]
    return [*title, *label, *head, *lines, ""] if rows else [*title, "None: the mart is empty.", ""]


def _cell(value: Any) -> str:
    """A value of a mart in a table. A partner may have chosen its text: entities are neither links nor tags."""
    text = " ".join(str(spreadsheet_text("" if value is None else str(value))).split())
    return MARKUP.sub(lambda match: f"&#{ord(match[0])};", text if len(text) <= WIDTH else f"{text[:WIDTH]}…")


def _write(page: Path, title: str, lines: list[str]) -> None:
    page.write_text("\n".join([f"# {title}", "", *lines]), "utf-8")


def _joins_of(joins: list[tuple[str, str]]) -> list[str]:
    lines = [f"- `{column}` with [{table}]({table}.md)" for column, table in joins]
    return ["## Joins", "", *lines, ""] if joins else []


def _matrix(joins: Joins) -> list[str]:
    tables = sorted({table for of_mart in joins.values() for _, table in of_mart})
    lines = ["Which column of a mart joins which table of names. A mart's release keeps them as foreign keys.", ""]
    lines += [
        f"| mart | {' | '.join(f'[{table}]({table}.md)' for table in tables)} |",
        f"| --- |{' --- |' * len(tables)}",
    ]
    for mart, of_mart in joins.items():
        cells = [", ".join(f"`{column}`" for column, table in of_mart if table == wanted) for wanted in tables]
        lines.append(f"| [{mart}]({mart}.md) | {' | '.join(cells)} |")
    return [*lines, ""]


def _contents(by_family: dict[str, list[str]], marts: dict[str, Any]) -> list[str]:
    lines = ["Every mart and feed has a page. [What joins what](dictionary/joins.md).", ""]
    for family, names in by_family.items():
        lines += [f"## {_title(family)}", ""]
        for name in names:
            first = " ".join(marts[name]["description"].split()).split(". ")[0].rstrip(".")
            lines.append(f"- [{name}](dictionary/{name}.md): {first}.")
        lines.append("")
    lines += ["## Feeds", ""]
    lines += [f"- [{feed}](dictionary/{feed}.md): {contract.title}." for feed, contract in all_contracts().items()]
    return [*lines, ""]


def _relink(page: Path) -> str:
    """The page's text, in which a link to anything but a page of the site is plain text."""

    def relinked(link: re.Match[str]) -> str:
        target = (page.parent / link[2]).resolve() if link[2] else page
        return link[0] if target.is_file() else link[1]

    return LINK.sub(relinked, page.read_text("utf-8"))


def _config(by_family: dict[str, list[str]], feeds: list[str], pages: Path) -> dict[str, Any]:
    start = []
    for name, (english, chinese) in START.items():
        start.append({english: f"docs/start/{name}.md"})
        start += [{chinese: f"docs/start/{name}.zh-Hant.md"}] if chinese else []
    families = [
        {_title(page.stem): f"docs/marts/{page.name}"} for page in sorted((pages / "docs" / "marts").glob("*.md"))
    ]
    decisions = [
        {page.read_text("utf-8").splitlines()[0].lstrip("# "): f"docs/adr/{page.name}"}
        for page in sorted((pages / "docs" / "adr").glob("0*.md"))
    ]
    of_marts = [
        {_title(family): [f"docs/dictionary/{name}.md" for name in names]} for family, names in by_family.items()
    ]
    named = {
        "Use the marts": ["questions", "entities", "connect", "cookbook", "glossary", "bi", "desks"],
        "Run it": ["runbook", "problems", "installation", "security", "growth", "benchmarks"],
        "Change it": ["architecture", "tutorial-add-a-feed", "tutorial-feed-to-page"],
    }
    rooms = {
        room: [f"docs/{name}.md" for name in names if (pages / "docs" / f"{name}.md").exists()]
        for room, names in named.items()
    }
    return {
        "site_name": "Sampan",
        "docs_dir": "pages",
        "site_dir": "site",
        # Opened from a folder. Search needs a server: without one it would take a script from elsewhere.
        "use_directory_urls": False,
        "extra_css": [STYLE],
        "theme": {"name": "material", "font": False, "features": ["search.highlight", "content.code.copy"]},
        "markdown_extensions": ["tables", "toc", "pymdownx.highlight", "pymdownx.superfences"],
        "nav": [
            {"Sampan": "README.md"},
            {"Start here": start},
            {"Use the marts": [*rooms["Use the marts"], *families]},
            {"Dictionary": ["docs/data-dictionary.md", "docs/dictionary/joins.md", *of_marts,
                            {"Feeds": [f"docs/dictionary/{feed}.md" for feed in feeds]}]},
            {"Run it": rooms["Run it"]},
            {"Change it": [*rooms["Change it"], "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md",
                           {"Decisions": ["docs/adr/README.md", *decisions]}]},
        ],
    }  # fmt: skip


def _title(name: str) -> str:
    return {"cdi": "CDI", "sme": "SMEs"}.get(name, name.replace("_", " ").capitalize())


if __name__ == "__main__":
    try:
        page = build(settings().state / "site")
        print(
            f"{page}\nwith search, at http://127.0.0.1:8000: python3 -m http.server --bind 127.0.0.1 -d {page.parent}"
        )
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
