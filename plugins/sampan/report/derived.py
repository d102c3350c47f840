"""Files that follow from the question files, dashboards.yml and the models: docs/questions.md, dbt's exposures, pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sampan.contracts import derive
from sampan.errors import Code, Problem
from sampan.report import pictures
from sampan.report.dashboards import all_dashboards
from sampan.report.questions import all_questions
from sampan.settings import settings

TEMPLATES = Path(__file__).with_name("templates")
DERIVE = "run `sampan contracts derive`"


def page() -> str:
    """The text of docs/questions.md."""
    intro = (TEMPLATES / "questions.md").read_text(encoding="utf-8")
    sections = [
        f"## {question.number}. {question.title['en']}\n\nMart: `{question.mart}`\n\n{question.know['en'].strip()}\n\n"
        f"```sql\n{question.query.strip()}\n```\n"
        for question in all_questions()
    ]
    return "\n".join([intro, *sections])


def exposures() -> str:
    """dbt's exposures: the page of each question and each dashboard, and the marts that it is made of."""

    def exposure(name: str, label: str, kind: str, description: str, marts: Iterable[str]) -> dict[str, Any]:
        return {
            "name": name,
            "label": label,
            "type": kind,
            "maturity": "high",
            "description": description.strip(),
            "depends_on": [f"ref('{mart}')" for mart in marts],
            "owner": {"name": "Sampan data engineering"},
        }

    found = [
        exposure(f"question_{q.number:02}_{q.slug}", f"Question {q.number}", "analysis", q.title["en"], q.marts)
        for q in all_questions()
    ]
    found += [
        exposure(f"dashboard_{d.key}", d.title["en"], "dashboard", d.about["en"], d.sources) for d in all_dashboards()
    ]
    header = (
        "# Generated from the question files and dashboards.yml by `sampan contracts derive`; edit those, not this.\n"
    )
    return header + derive.to_yaml({"version": 2, "exposures": found})


def derived() -> dict[Path, str]:
    """What follows from the question files, dashboards.yml and the models: docs/questions.md, dbt's exposures, pictures."""
    docs = _docs()
    return {
        docs / "questions.md": page(),
        derive.PROJECT / "models" / "exposures.yml": exposures(),
        **{docs / name: picture for name, picture in pictures.pictures().items()},
    }


def _docs() -> Path:
    return settings().home / "docs"


def write() -> list[Path]:
    """Write the derived files that are out of date. Returns what was written."""
    stale = _stale()
    left = _left_over()
    for path in left:
        path.unlink()
    for path, text in stale.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [*stale, *left]


def check() -> list[Problem]:
    """The derived files that are out of date."""
    message = f"differs from what the question files, dashboards.yml and the models say: {DERIVE}"
    return [Problem(Code.DERIVE_STALE, message, str(path)) for path in [*_stale(), *_left_over()]]


def _stale() -> dict[Path, str]:
    found = derived().items()
    return {path: text for path, text in found if not path.exists() or path.read_text(encoding="utf-8") != text}


def _left_over() -> list[Path]:
    """Pictures of families that are gone, in the folders of those that there are."""
    known = derived()
    folders = {path.parent for path in known if path.suffix == ".svg" and path.parent != _docs()}
    return [path for folder in sorted(folders) for path in sorted(folder.glob("*.svg")) if path not in known]
