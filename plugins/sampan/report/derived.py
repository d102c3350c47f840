"""Files that follow from the question files and dashboards.yml: docs/questions.md and dbt's exposures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sampan.contracts import derive
from sampan.errors import Code, Problem
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
    found: list[dict[str, Any]] = [
        {
            "name": f"question_{question.number:02}_{question.slug}",
            "label": f"Question {question.number}",
            "type": "analysis",
            "maturity": "high",
            "description": question.title["en"].strip(),
            "depends_on": [f"ref('{mart}')" for mart in question.marts],
            "owner": {"name": "Sampan data engineering"},
        }
        for question in all_questions()
    ]
    found += [
        {
            "name": f"dashboard_{dashboard.key}",
            "label": dashboard.title["en"],
            "type": "dashboard",
            "maturity": "high",
            "description": dashboard.about["en"].strip(),
            "depends_on": [f"ref('{mart}')" for mart in dashboard.sources],
            "owner": {"name": "Sampan data engineering"},
        }
        for dashboard in all_dashboards()
    ]
    header = (
        "# Generated from the question files and dashboards.yml by `sampan contracts derive`; edit those, not this.\n"
    )
    return header + derive.to_yaml({"version": 2, "exposures": found})


def derived() -> dict[Path, str]:
    """What follows from the question files and dashboards.yml: docs/questions.md and dbt's exposures."""
    return {
        settings().home / "docs" / "questions.md": page(),
        derive.PROJECT / "models" / "exposures.yml": exposures(),
    }


def write() -> list[Path]:
    """Write the derived files that are out of date. Returns what was written."""
    stale = _stale()
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
    return [*stale]


def check() -> list[Problem]:
    """The derived files that are out of date."""
    message = f"differs from what the question files and dashboards.yml say: {DERIVE}"
    return [Problem(Code.DERIVE_STALE, message, str(path)) for path in _stale()]


def _stale() -> dict[Path, str]:
    found = derived().items()
    return {path: text for path, text in found if not path.exists() or path.read_text(encoding="utf-8") != text}
