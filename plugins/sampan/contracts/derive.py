"""Files that follow from the contracts and models: dbt's sources and staging models, its list of feeds, the data
dictionary, the page of problem codes. `write()` makes them, `check()` names those that are stale.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

from sampan.contracts import shorthand
from sampan.contracts.model import Column, Contract
from sampan.contracts.registry import all_contracts
from sampan.errors import PAGE, Code, Problem
from sampan.problems import problems_page
from sampan.settings import HOME, read_yaml

PROJECT = HOME / "dbt_project"
STAGING = PROJECT / "models" / "staging"
HEADER = "Generated from the contracts by `sampan contracts derive`; edit those, not this."
MODEL_HEADER = "Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is."
# PyYAML breaks a line after the word that crosses the width: no line is longer than 120.
WIDTH = 100
DOC = re.compile(r"\{\{ doc\('(\w+)'\) \}\}")
# Days without news after which dbt's own freshness warns, by calendar: it knows no holidays, as `sampan status` does.
DAYS_WITHOUT_NEWS = {"business": 6, "daily": 3, "weekly": 10, "monthly": 40}
FEED_COLUMNS = ("feed", "partner", "title", "calendar_days", "missing", "open_data_set")


class _Dumper(yaml.SafeDumper):
    """Block style with indented lists, like the hand-written files."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def to_yaml(document: Any) -> str:
    """A document in block style, at most 120 columns wide."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)


def odcs(contract: Contract) -> str:
    """The ODCS document of a contract, with the partner's defaults and the short forms expanded."""
    return to_yaml(shorthand.read(contract.path))


def staging_model(contract: Contract) -> str:
    """Name of the one staging model of a feed: `stg_<partner>__<entity>`."""
    return f"stg_{contract.partner}__{contract.feed.removeprefix(contract.partner + '_')}"


def staging_path(contract: Contract) -> Path:
    """File of the staging model of a feed, in the folder of its partner."""
    return STAGING / contract.partner / f"{staging_model(contract)}.sql"


def staging(contract: Contract) -> str:
    """The staging model of a feed that only renames: every stored column, and the batch that brought the row."""
    columns = (
        f"deliveries.{c.name}" + (f" as {c.staged_as}" if c.staged_as != c.name else "") for c in contract.stored
    )
    return "\n".join(
        [
            f"-- {contract.grain.rstrip('.')}, of each batch.",
            f"-- {MODEL_HEADER}",
            f"with deliveries as ({{{{ deliveries('{contract.feed}') }}}})",
            "",
            "select",
            *(f"    {column}," for column in columns),
            "    {{ lineage() }}",
            "from deliveries",
            "",
        ]
    )


def _described(column: Column) -> str:
    unit = f" Unit: {column.unit}." if column.unit else ""
    return column.description + unit


def source(contract: Contract) -> str:
    """dbt's source of a feed with its columns and what the macros need to know of its contract, and its staging model."""
    columns = [{"name": c.name, "data_type": c.type, "description": _described(c)} for c in contract.stored]
    columns.append({"name": "_batch_id", "data_type": "bigint", "description": "Batch that brought the row."})
    columns.append({"name": "_line", "data_type": "bigint", "description": "Line of the delivery where it begins."})
    described = f"{contract.grain} {contract.description}"
    meta = {
        "key": list(contract.key),
        "corrections": contract.corrections,
        "version_column": contract.version_column,
    }
    config: dict[str, Any] = {"meta": meta}
    if days := DAYS_WITHOUT_NEWS.get(contract.calendar.days):
        arrived = "select max(published_at) from ops.batch where feed = '{}'"
        config |= {
            "loaded_at_query": arrived.format(contract.feed),
            "freshness": {"warn_after": {"count": days, "period": "day"}},
        }
    table = {"name": contract.feed, "description": described, "config": config, "columns": columns}
    raw = {"name": "raw", "description": "Every version of every row that partners delivered and the gate accepted."}
    staged = f"{contract.grain.rstrip('.')}, of each batch. {contract.description}"
    document = {
        "version": 2,
        "sources": [raw | {"schema": "raw", "tables": [table]}],
        "models": [{"name": staging_model(contract), "description": staged}],
    }
    return f"# {HEADER}\n{to_yaml(document)}"


def enterprise_numbers() -> str:
    """A macro: every number that makes an enterprise known, of the batches that the running build takes in."""
    queries = [
        f"    select {column.staged_as} as number from {{{{ ref('{staging_model(contract)}') }}}}"
        f" where {{{{ in_build('{contract.feed}') }}}}"
        for contract in all_contracts().values()
        for column in contract.stored
        if column.identifies == "enterprise_number"
    ]
    lines = (f"{{#- {HEADER} -#}}", "{% macro enterprise_numbers() -%}", "\n    union distinct\n".join(queries))
    return "\n".join([*lines, "{%- endmacro %}", ""])


def feeds() -> str:
    """The seed `feeds`: one row per feed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FEED_COLUMNS)
    for contract in all_contracts().values():
        calendar = contract.calendar
        row = [contract.feed, contract.partner, contract.title, calendar.days, calendar.missing, contract.open_data_set]
        writer.writerow(row)
    return out.getvalue()


@cache
def mart_models() -> tuple[dict[str, Any], ...]:
    """The models that readers see, as described in the dbt project, each with its folder (family); not to be changed."""
    found, blocks = [], _doc_blocks()
    for path in sorted(PROJECT.glob("models/**/*.yml")):
        for model in read_yaml(path).get("models") or ():
            if model["name"].startswith(("mart_", "dim_", "fct_")):
                for column in model["columns"]:
                    column["description"] = DOC.sub(lambda name: blocks[name[1]], column["description"])
                found.append(model | {"family": path.parent.name})
    return tuple(found)


def _doc_blocks() -> dict[str, str]:
    """Texts of the dbt project's doc blocks, by name."""
    block = re.compile(r"\{% docs (\w+) %\}(.*?)\{% enddocs %\}", re.DOTALL)
    pages = (path.read_text(encoding="utf-8") for path in PROJECT.glob("models/**/*.md"))
    return {name: text.strip() for page in pages for name, text in block.findall(page)}


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    heads = list(heads)
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for row in rows:
        cells = (str(cell if cell is not None else "").replace("|", "\\|").replace("\n", " ") for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _handling(column: Column) -> str:
    """How personal data in the column is handled."""
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
        "Read a mart as `marts.<name>`, or as `release_<number>.<name>` if several statements have to read one release.",
        "Money is decimal, in the unit that the column's name ends with. Feeds are what partners deliver.",
        "",
        "## Marts",
        "",
    ]
    for model in mart_models():
        lines += [f"### {model['name']}", "", *describe_mart(model)]
    lines += ["## Feeds", ""]
    for contract in all_contracts().values():
        lines += [f"### {contract.feed}", "", *describe_feed(contract)]
    return "\n".join(lines).rstrip() + "\n"


def describe_mart(model: dict[str, Any]) -> list[str]:
    """What a mart is, as lines of Markdown: its grain, disclosure class, columns, and names that go."""
    meta = model.get("config", {}).get("meta", {})
    lines = [" ".join(model["description"].split()), ""]
    lines += [f"Disclosure class: {str(meta.get('disclosure')).replace('_', ' ')}.", ""]
    rows = [(f"`{c['name']}`", c.get("data_type", ""), " ".join(c["description"].split())) for c in model["columns"]]
    lines += [*_table(("column", "type", "meaning"), rows), ""]
    renamed = meta.get("deprecated")
    if renamed:
        names = (f"`{old}` (now `{'`, `'.join([new] if isinstance(new, str) else new)}`)"
                 for old, new in renamed["columns"].items())  # fmt: skip
        lines += [f"Deprecated since version {renamed['since']}, removed in the one after it: {', '.join(names)}.", ""]
    return lines


def describe_feed(contract: Contract) -> list[str]:
    """What a feed is, as lines of Markdown: who delivers it, how and when, its columns."""
    due = f"due {contract.calendar.due} ({contract.calendar.timezone}), {contract.calendar.days}"
    corrections = contract.corrections + (f" by {contract.version_column}" if contract.version_column else "")
    columns = [
        (f"`{c.name}`", c.type, c.unit, "yes" if c.required else "", c.description, _values(c), _handling(c))
        for c in contract.columns
    ]
    return [
        f"{contract.title}, from {contract.owner} ({contract.contact}). {contract.grain} {contract.description}",
        contract.limitations,
        "",
        *([f"Used for: {contract.usage}", ""] if contract.usage else ()),
        f"Key: {', '.join(f'`{name}`' for name in contract.key)}. Delivery: {contract.source.extension}, {due}. "
        f"Corrections: {corrections}. Kept for {contract.retention_days} days. "
        f"Staged as `{staging_model(contract)}`.",
        "",
        *_table(("column", "type", "unit", "required", "meaning", "values", "personal data"), columns),
        "",
    ]


def derived() -> dict[Path, Callable[[], str]]:
    """Every derived file with what makes its content. A hand-written staging model takes the derived one's place."""
    files: dict[Path, Callable[[], str]] = {
        PROJECT / "macros" / "enterprise_numbers.sql": enterprise_numbers,
        PROJECT / "seeds" / "feeds.csv": feeds,
        HOME / "docs" / "data-dictionary.md": dictionary,
        HOME / PAGE: problems_page,
    }
    for contract in all_contracts().values():
        model = staging_path(contract)
        files[model.with_name(f"_{contract.feed}.yml")] = partial(source, contract)
        if not model.exists() or _is_derived(model):
            files[model] = partial(staging, contract)
    return files


def write() -> list[Path]:
    """Write every derived file whose content changed and remove those of feeds that are gone; return both."""
    changed = _left_over()
    for path in changed:
        path.unlink()
    for path, make in derived().items():
        content = make()
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            # They belong to the repository, whose files are for everybody.
            path.chmod(0o644)
            changed.append(path)
    return changed


def check() -> list[Problem]:
    """A problem for each derived file that is stale, and for each that is left over from a feed that is gone."""
    stale = [
        path for path, make in derived().items() if not path.exists() or path.read_text(encoding="utf-8") != make()
    ]
    return [
        Problem(Code.DERIVE_STALE, "differs from what the contracts say: run `sampan contracts derive`", str(path))
        for path in [*stale, *_left_over()]
    ]


def _left_over() -> list[Path]:
    expected = derived().keys()
    files = [*STAGING.glob("*/stg_*.sql"), *STAGING.glob("*/_*.yml")]
    return [path for path in sorted(files) if path not in expected and _is_derived(path)]


def _is_derived(path: Path) -> bool:
    head = path.read_text(encoding="utf-8").splitlines()[:2]
    return any(line.endswith((HEADER, MODEL_HEADER)) for line in head)
