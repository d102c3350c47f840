"""Files derived from the contracts and the models that have to exist on disk: dbt's sources, its list of feeds, the
data dictionary. `write()` makes them, `check()` names those that are stale; nobody edits them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from sampan.contracts.model import Column, Contract
from sampan.contracts.registry import all_contracts
from sampan.errors import Code, Problem
from sampan.settings import HOME

PROJECT = HOME / "dbt_project"
HEADER = "Generated from the contracts by `sampan contracts derive`; edit those, not this."
FEED_COLUMNS = ("feed", "partner", "title", "calendar_days", "missing")


class _Dumper(yaml.SafeDumper):
    """Block style with indented lists, as the hand-written files have it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _yaml(document: Any) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def staging_model(contract: Contract) -> str:
    """Name of the one staging model of a feed: `stg_<partner>__<entity>`."""
    return f"stg_{contract.partner}__{contract.feed.removeprefix(contract.partner + '_')}"


def _described(column: Column) -> str:
    unit = f" Unit: {column.unit}." if column.unit else ""
    return column.description + unit


def sources() -> str:
    """dbt's sources: one table per feed with its columns, and what the macros need to know of its contract."""
    tables = []
    for contract in all_contracts().values():
        columns = [{"name": c.name, "data_type": c.type, "description": _described(c)} for c in contract.stored]
        columns.append({"name": "_batch_id", "data_type": "bigint", "description": "Batch that brought the row."})
        columns.append({"name": "_line", "data_type": "bigint", "description": "Line of the delivery where it begins."})
        tables.append(
            {
                "name": contract.feed,
                "description": f"{contract.grain} {contract.description}",
                "config": {
                    "meta": {
                        "key": list(contract.key),
                        "corrections": contract.corrections,
                        "version_column": contract.version_column,
                    }
                },
                "columns": columns,
            }
        )
    document = {
        "version": 2,
        "sources": [
            {
                "name": "raw",
                "description": "What the partners delivered and the gate let through, every version of it.",
                "schema": "raw",
                "tables": tables,
            }
        ],
    }
    return f"# {HEADER}\n{_yaml(document)}"


def feeds() -> str:
    """The seed `feeds`: one row per feed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FEED_COLUMNS)
    for contract in all_contracts().values():
        calendar = contract.calendar
        writer.writerow([contract.feed, contract.partner, contract.title, calendar.days, calendar.missing])
    return out.getvalue()


def mart_models() -> list[dict[str, Any]]:
    """The models that readers see, as described in the dbt project, each with the folder (family) it stands in."""
    found = []
    for path in sorted(PROJECT.glob("models/**/*.yml")):
        for model in yaml.safe_load(path.read_text(encoding="utf-8")).get("models") or ():
            if model["name"].startswith(("mart_", "dim_", "fct_")):
                found.append(model | {"family": path.parent.name})
    return found


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    heads = list(heads)
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for row in rows:
        cells = (str(cell if cell is not None else "").replace("|", "\\|").replace("\n", " ") for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _handling(column: Column) -> str:
    """What happens to personal data in a column."""
    if column.personal == "drop":
        return "personal; dropped before it reaches a table"
    if column.personal == "pseudonymise":
        return "keyed pseudonym" + (" where the value is an HKID number" if column.expects_hkid else "")
    return ""


def _values(column: Column) -> str:
    parts = [", ".join(column.enum)] if column.enum else []
    parts += [f"{name} {value}" for name, value in column.options.items() if name != "maxLength"]
    return "; ".join(parts)


def dictionary() -> str:
    """The data dictionary: marts first, then feeds; every column with type, unit and meaning."""
    lines = [
        f"<!-- {HEADER} -->",
        "# Data dictionary",
        "",
        "Marts are read as `marts.<name>`, or as `release_<number>.<name>` by whoever needs several statements on one",
        "release. Money is decimal, in the unit that the column's name ends with. Feeds are what partners deliver.",
        "",
        "## Marts",
        "",
    ]
    for model in mart_models():
        lines += [f"### {model['name']}", "", " ".join(model["description"].split()), ""]
        rows = [
            (f"`{c['name']}`", c.get("data_type", ""), " ".join(c["description"].split())) for c in model["columns"]
        ]
        lines += [*_table(("column", "type", "meaning"), rows), ""]
    lines += ["## Feeds", ""]
    for contract in all_contracts().values():
        due = f"due {contract.calendar.due} ({contract.calendar.timezone}), {contract.calendar.days}"
        corrections = contract.corrections + (f" by {contract.version_column}" if contract.version_column else "")
        lines += [
            f"### {contract.feed}",
            "",
            f"{contract.title}, from {contract.owner} ({contract.contact}). {contract.grain} {contract.description}",
            contract.limitations,
            "",
            *([f"Used for: {contract.usage}", ""] if contract.usage else ()),
            f"Key: {', '.join(f'`{name}`' for name in contract.key)}. Delivery: {contract.source.extension}, {due}. "
            f"Corrections: {corrections}. Kept for {contract.retention_days} days. "
            f"Staged as `{staging_model(contract)}`.",
            "",
        ]
        rows = [
            (f"`{c.name}`", c.type, c.unit, "yes" if c.required else "", c.description, _values(c), _handling(c))
            for c in contract.columns
        ]
        lines += [*_table(("column", "type", "unit", "required", "meaning", "values", "personal data"), rows), ""]
    return "\n".join(lines).rstrip() + "\n"


DERIVED: dict[Path, Callable[[], str]] = {
    PROJECT / "models" / "staging" / "_sources.yml": sources,
    PROJECT / "seeds" / "feeds.csv": feeds,
    HOME / "docs" / "data-dictionary.md": dictionary,
}


def write() -> list[Path]:
    """Write every derived file whose content changed; return those."""
    changed = []
    for path, make in DERIVED.items():
        content = make()
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            changed.append(path)
    return changed


def check() -> list[Problem]:
    """A problem for each derived file that is stale, and for each feed without its one staging model."""
    problems = [
        Problem(Code.DERIVE_STALE, "stale: run `sampan contracts derive`", str(path))
        for path, make in DERIVED.items()
        if not path.exists() or path.read_text(encoding="utf-8") != make()
    ]
    for contract in all_contracts().values():
        model = PROJECT / "models" / "staging" / f"{staging_model(contract)}.sql"
        if not model.exists():
            problems.append(Problem(Code.DERIVE_STAGING, f"feed {contract.feed} has no staging model", str(model)))
    return problems
