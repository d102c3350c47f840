"""Every error of a contract file, with its line and code: the standard first, then what Sampan needs beyond it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import yaml

from sampan import progress
from sampan.contracts import shorthand
from sampan.contracts.model import (
    COLUMN_PROPERTIES,
    CONTRACT_PROPERTIES,
    CORRECTIONS,
    DRIFT,
    FEEDS,
    IDENTIFIES,
    OPTIONAL_CONTRACT_PROPERTIES,
    PERSONAL,
    REQUEST_PROPERTIES,
    SERVER_PROPERTIES,
    SEVERITIES,
    SQL_TYPES,
    custom_properties,
)
from sampan.contracts.parse import parse_contract
from sampan.contracts.predicates import check_predicate, query_faults
from sampan.contracts.validate_server import Finding, check_server
from sampan.contracts.values import linear
from sampan.errors import Code, Problem
from sampan.text import did_you_mean

# What a contract may say beside the standard's keys: at its top, of a server, of a column.
SHORT_KEYS = {
    "": {*shorthand.SHORT_PROPERTIES, "contact", "retention"},
    "servers": SERVER_PROPERTIES | REQUEST_PROPERTIES,
    "properties": COLUMN_PROPERTIES | {"between", *shorthand.TYPE_OPTIONS},
}
# The greatest repetition count of a PostgreSQL regular expression.
MAX_COUNT = 255
# Other arguments of expectations hold SQL or name other tables.
EXPECTATION_ARGUMENTS = {
    *("column", "column_A", "column_B", "column_list", "max_value", "min_value", "mostly", "regex", "regex_list"),
    *("strict_max", "strict_min", "sum_total", "unexpected_rows_query", "value", "value_set"),
}
OPTIONS = {
    "string": {"pattern", "minLength", "maxLength"},
    "integer": {"minimum", "maximum"},
    "number": {"minimum", "maximum", "exclusiveMinimum"},
    "date": {"minimum", "maximum"},
    "timestamp": {"minimum", "maximum"},
    "boolean": set(),
}


@cache
def _standard() -> Any:
    import jsonschema
    import open_data_contract_standard

    schema = json.loads((Path(open_data_contract_standard.__file__).parent / "schema.json").read_text())
    return jsonschema.validators.validator_for(schema)(schema)


def _mark(root: yaml.Node, path: list[Any]) -> yaml.Mark:
    """Where the node at `path`, or the nearest one above it that exists, is written: file and line."""
    node = root
    for step in path:
        child = None
        if isinstance(node, yaml.MappingNode):
            child = next((value for key, value in node.value if key.value == str(step)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            child = node.value[step]
        if child is None:
            break
        node = child
    return node.start_mark


def _repeated(root: yaml.Node) -> Iterator[tuple[str, yaml.Mark]]:
    """Duplicate keys of one mapping, with the place of the later one: YAML takes that and drops the others."""
    nodes, known = [root], {id(root)}
    for node in nodes:
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, _ in node.value:
                if str(key.value) in keys:
                    yield str(key.value), key.start_mark
                keys.add(str(key.value))
            inner = [value for _, value in node.value]
        # An alias leads back to a node that was seen, in the worst case to itself.
        nodes += [child for child in inner if id(child) not in known]
        known |= {id(child) for child in inner}


def check(path: Path) -> list[Problem]:
    """Every error of one contract file; empty when it is valid.

    What is checked is the ODCS document that the file expands to; file and line are of the part that was written, which
    may be in the partner's defaults.
    """
    try:
        written = shorthand.compose(path)
        repeated = [
            Problem(Code.CONTRACT_YAML, f"duplicate key {key!r}", str(mark.name), mark.line + 1)
            for key, mark in (_repeated(written) if written else ())
        ]
        if repeated:
            return repeated
        root = shorthand.expand(written) if written else None
        document = shorthand.construct(root) if root else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = (str(mark.name), mark.line + 1) if mark else (str(path), None)
        return [Problem(Code.CONTRACT_YAML, str(error.problem), *place)]
    except OSError as error:
        return [Problem(Code.CONTRACT_UNREADABLE, error.strerror or str(error), str(path))]
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        return [Problem(Code.CONTRACT_YAML, str(error), str(path), 1)]
    if root is None or not isinstance(document, dict):
        return [Problem(Code.CONTRACT_YAML, "expected keys and values at the top level", str(path), 1)]
    found = [
        (list(error.absolute_path), Code.CONTRACT_STANDARD, _deepest(error))
        for error in _standard().iter_errors(document)
    ]
    if not found:
        found = list(_meaning(document, path))
    marks = ((_mark(root, where), rule, message) for where, rule, message in found)
    problems = {Problem(rule, message, str(mark.name), mark.line + 1) for mark, rule, message in marks}
    return sorted(problems, key=lambda problem: (problem.file or "", problem.line or 0, problem.message))


def check_all(folder: Path | None = None) -> list[Problem]:
    """Every error of the contracts of a folder; a folder without any contract is an error too."""
    paths = sorted((folder or FEEDS).glob("*.yaml"))
    if not paths:
        return [Problem(Code.CONTRACT_NONE, "no contract found", str(folder or FEEDS))]
    return [problem for path in progress.each(paths, lambda path: path.stem) for problem in check(path)]


def _deepest(error: Any) -> str:
    while error.context:
        error = max(error.context, key=lambda inner: len(inner.absolute_path))
    where = ".".join(str(step) for step in error.absolute_path)
    message = error.message
    if error.validator in ("additionalProperties", "unevaluatedProperties"):
        place = next((step for step in reversed(error.absolute_path) if isinstance(step, str)), "")
        known = {*error.schema.get("properties", ()), *SHORT_KEYS.get(place, ())}
        unknown = re.findall(r"'([^']+)'", message)
        message = "; ".join(f"unknown key {key!r}{did_you_mean(key, known)}" for key in unknown) or message
    return f"{where + ': ' if where else ''}{message}"[:400]


def _meaning(document: dict[str, Any], path: Path) -> Iterator[Finding]:
    """What Sampan needs beyond the standard; an unforeseen structure is a finding too."""
    sound = True
    try:
        for finding in _semantic(document, path):
            sound = False
            yield finding
        if sound:
            parse_contract(document, path)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        yield [], Code.CONTRACT_SHAPE, f"unexpected structure: {type(error).__name__}: {error}"


def _semantic(document: dict[str, Any], path: Path) -> Iterator[Finding]:
    """What Sampan needs, part by part."""
    if document["id"] != path.stem:
        yield ["id"], Code.CONTRACT_ID, f"id {document['id']!r} differs from the file name {path.stem!r}"
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", str(document["id"])):
        yield ["id"], Code.CONTRACT_ID, "an id must be lower snake case, at most 40 characters"
    missing = [
        key
        for key in ("name", "domain", "description", "team", "servers", "schema", "slaProperties", "customProperties")
        if not document.get(key)
    ]
    for key in missing:
        yield [], Code.CONTRACT_MISSING, f"{key} is missing"
    if missing:
        return
    if not document["description"].get("purpose"):
        yield ["description"], Code.CONTRACT_MISSING, "description.purpose is missing"
    if not isinstance(document["team"], dict) or not (document["team"].get("members") and document["team"].get("name")):
        yield (
            ["team"],
            Code.CONTRACT_MISSING,
            "team needs a name (here or in the partner's defaults) and a member to notify",
        )
    if len(document["schema"]) != 1:
        yield ["schema"], Code.CONTRACT_SCHEMA, "schema must have exactly one table"
        return
    table = document["schema"][0]
    columns = table.get("properties") or []
    names = [item.get("name") for item in columns]
    if not table.get("dataGranularityDescription"):
        yield ["schema", 0], Code.CONTRACT_MISSING, "dataGranularityDescription (the grain) is missing"
    if not any(item.get("primaryKey") for item in columns):
        yield ["schema", 0], Code.CONTRACT_KEY, "no column is part of the primary key"
    for position, item in enumerate(columns):
        for rule, message in _check_column(item, names[:position]):
            yield ["schema", 0, "properties", position], rule, message
    seen: set[str] = set()
    for position, item in enumerate(table.get("quality") or ()):
        for rule, message in _check_rule(item, {str(name) for name in names}, seen):
            yield ["schema", 0, "quality", position], rule, message
    yield from check_server(document, columns, path.parent)
    yield from _check_custom(document, names)


def _check_column(item: dict[str, Any], before: list[Any]) -> Iterator[tuple[Code, str]]:
    name = str(item.get("name"))
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", name):
        yield Code.CONTRACT_COLUMN, f"column {name!r} is not lower snake case"
    if name in before:
        yield Code.CONTRACT_COLUMN, f"duplicate column {name!r}"
    if item.get("logicalType") not in SQL_TYPES:
        yield Code.CONTRACT_TYPE, f"{name}: logicalType must be one of {', '.join(SQL_TYPES)}"
        return
    if not item.get("description"):
        yield Code.CONTRACT_MISSING, f"{name}: description is missing"
    if item.get("primaryKey") and not item.get("primaryKeyPosition"):
        yield Code.CONTRACT_KEY, f"{name}: primaryKeyPosition is missing"
    options = item.get("logicalTypeOptions") or {}
    bounded = item["logicalType"] != "string" or item.get("enum") or {"pattern", "maxLength"} & options.keys()
    if item.get("primaryKey") and not bounded:
        yield (
            Code.CONTRACT_KEY,
            f"{name}: a string key column needs a pattern, an enum or a maxLength (index entries are size-limited)",
        )
    if item.get("primaryKey") and not item.get("required"):
        yield Code.CONTRACT_KEY, f"{name}: a key column must be required"
    custom = custom_properties(item.get("customProperties"))
    for unknown in custom.keys() - COLUMN_PROPERTIES:
        yield (
            Code.CONTRACT_UNKNOWN_PROPERTY,
            f"{name}: unknown property {unknown!r}{did_you_mean(unknown, COLUMN_PROPERTIES)}",
        )
    if custom.get("personalData", "none") not in PERSONAL:
        yield Code.CONTRACT_PERSONAL_DATA, f"{name}: personalData must be one of {', '.join(PERSONAL)}"
    pattern = custom.get("personalDataPattern", "hkid")
    if pattern != "hkid":
        yield Code.CONTRACT_PERSONAL_DATA, f"{name}: the only personalDataPattern is hkid"
    elif "personalDataPattern" in custom and custom.get("personalData") != "pseudonymise":
        yield Code.CONTRACT_PERSONAL_DATA, f"{name}: a personalDataPattern needs personalData: pseudonymise"
    if custom.get("identifies") not in (None, *IDENTIFIES):
        yield Code.CONTRACT_COLUMN, f"{name}: identifies must be one of {', '.join(IDENTIFIES)}"
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", str(custom.get("stagedAs", name))):
        yield Code.CONTRACT_COLUMN, f"{name}: stagedAs {custom['stagedAs']!r} is not lower snake case"
    for unknown in options.keys() - OPTIONS[item["logicalType"]]:
        known = did_you_mean(unknown, OPTIONS[item["logicalType"]])
        yield Code.CONTRACT_OPTION, f"{name}: {unknown!r} is not an option of type {item['logicalType']}{known}"
    if "pattern" in options:
        yield from _check_pattern(name, str(options["pattern"]))
        counts = re.findall(r"\{([0-9]+)(?:,([0-9]*))?\}", options["pattern"])
        if max((int(count) for pair in counts for count in pair if count), default=0) > MAX_COUNT:
            yield (
                Code.CONTRACT_PATTERN,
                f"{name}: PostgreSQL repeats a pattern at most {MAX_COUNT} times; use maxLength",
            )
    if item["logicalType"] in ("date", "timestamp"):
        for bound in {"minimum", "maximum"} & options.keys():
            if not _is_date(str(options[bound])[:10]):
                yield Code.CONTRACT_OPTION, f"{name}: {bound} {options[bound]!r} is not a date"


def _check_pattern(name: str, pattern: str) -> Iterator[tuple[Code, str]]:
    """A pattern that Python, PostgreSQL and RE2 all take: what RE2 takes costs time by the length of a value, and no more."""
    import re2

    try:
        re.compile(pattern)
    except re.error as error:
        yield Code.CONTRACT_PATTERN, f"{name}: invalid regular expression: {error}"
        return
    try:
        linear(pattern)
    except re2.error as error:
        told = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
        yield Code.CONTRACT_PATTERN, f"{name}: no pattern of bounded time: {told}"


def _check_rule(item: dict[str, Any], names: set[str], seen: set[str]) -> Iterator[tuple[Code, str]]:
    name = item.get("name")
    if not name:
        yield Code.CONTRACT_RULE, "a rule needs a name"
        return
    if name in seen:
        yield Code.CONTRACT_RULE, f"duplicate rule name {name!r}"
    seen.add(name)
    if item.get("severity", "critical") not in SEVERITIES:
        yield Code.CONTRACT_RULE, f"{name}: severity must be one of {', '.join(SEVERITIES)}"
    if item.get("metric"):
        if item["metric"] != "rowCount":
            yield Code.CONTRACT_RULE, f"{name}: the only supported metric is rowCount; write a row rule instead"
        return
    if item.get("engine") == "row":
        yield from check_predicate(str(name), str(item.get("implementation")), names)
    elif item.get("engine") == "greatExpectations":
        yield from _check_expectation(str(name), item.get("implementation"), names)
    else:
        yield Code.CONTRACT_RULE, f"{name}: engine must be row or greatExpectations"


def _check_expectation(name: str, implementation: Any, names: set[str]) -> Iterator[tuple[Code, str]]:
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    if not isinstance(implementation, dict) or {"type", "kwargs"} - implementation.keys():
        yield Code.CONTRACT_EXPECTATION, f"{name}: implementation needs type and kwargs"
        return
    if implementation["type"] not in (known := list_registered_expectation_implementations()):
        wanted = implementation["type"]
        yield Code.CONTRACT_EXPECTATION, f"{name}: unknown expectation {wanted!r}{did_you_mean(str(wanted), known)}"
    kwargs = implementation["kwargs"]
    for argument in sorted(kwargs.keys() - EXPECTATION_ARGUMENTS):
        yield (
            Code.CONTRACT_EXPECTATION,
            f"{name}: argument {argument!r} is not allowed; write a row rule or a query instead",
        )
    column = kwargs.get("column")
    if column is not None and column not in names:
        yield Code.CONTRACT_EXPECTATION, f"{name}: unknown column {column!r}{did_you_mean(str(column), names)}"
    if "unexpected_rows_query" in kwargs:
        query = str(kwargs["unexpected_rows_query"]).replace("{batch}", "batch")
        for message in query_faults(query, names, ("batch",)):
            yield Code.CONTRACT_EXPECTATION, f"{name}: {message}"


def _check_custom(document: dict[str, Any], names: list[Any]) -> Iterator[Finding]:
    custom = custom_properties(document["customProperties"])
    lines = [item["property"] for item in document["customProperties"]]
    where: list[Any] = ["customProperties"]
    for unknown in custom.keys() - CONTRACT_PROPERTIES - OPTIONAL_CONTRACT_PROPERTIES:
        known = did_you_mean(unknown, CONTRACT_PROPERTIES | OPTIONAL_CONTRACT_PROPERTIES)
        yield [*where, lines.index(unknown)], Code.CONTRACT_UNKNOWN_PROPERTY, f"unknown property {unknown!r}{known}"
    absent = CONTRACT_PROPERTIES - custom.keys()
    for key in sorted(absent):
        yield where, Code.CONTRACT_MISSING, f"{key} is missing"
    if absent:
        return
    calendar, where = custom["calendar"], ["customProperties", lines.index("calendar")]
    for key in ("days", "due", "timezone", "missing", "empty"):
        if key not in calendar:
            yield where, Code.CONTRACT_CALENDAR, f"calendar.{key} is missing"
    if calendar.get("days") not in ("business", "daily", "weekly", "monthly", "event"):
        yield where, Code.CONTRACT_CALENDAR, "calendar.days must be business, daily, weekly, monthly or event"
    last = {"weekly": 7, "monthly": 28}.get(str(calendar.get("days")))
    if calendar.get("day") not in (range(1, last + 1) if last else (None,)):
        yield (
            where,
            Code.CONTRACT_CALENDAR,
            "calendar.day must be 1 to 7 for weekly, 1 to 28 for monthly, and absent otherwise",
        )
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", str(calendar.get("due"))):
        yield where, Code.CONTRACT_CALENDAR, "calendar.due must be HH:MM, in quotes"
    if calendar.get("timezone") not in available_timezones():
        yield where, Code.CONTRACT_CALENDAR, f"unknown time zone {calendar.get('timezone')!r}"
    if calendar.get("missing") not in ("late", "accept"):
        yield where, Code.CONTRACT_CALENDAR, "calendar.missing must be late or accept"
    if calendar.get("empty") not in ("hold", "accept"):
        yield where, Code.CONTRACT_CALENDAR, "calendar.empty must be hold or accept"
    if calendar.get("unchanged", "alert") not in ("alert", "accept"):
        yield where, Code.CONTRACT_CALENDAR, "calendar.unchanged must be alert or accept"
    budget, where = custom["rejectionBudget"], ["customProperties", lines.index("rejectionBudget")]
    if not isinstance(budget, int | float) or isinstance(budget, bool) or not 0 <= budget <= 1:
        yield where, Code.CONTRACT_BUDGET, "rejectionBudget must be a share from 0 to 1"
    if not isinstance(custom.get("alertOnRejected", False), bool):
        where = ["customProperties", lines.index("alertOnRejected")]
        yield where, Code.CONTRACT_OPTION, "alertOnRejected must be true or false"
    if "openDataSet" in custom and not re.fullmatch(r"[a-z0-9_-]{2,100}", str(custom["openDataSet"])):
        where = ["customProperties", lines.index("openDataSet")]
        yield where, Code.CONTRACT_OPTION, "openDataSet must name a data set of DATA.GOV.HK, as in its address"
    where = ["customProperties", lines.index("schemaDrift")]
    policy = custom["schemaDrift"].get("policy")
    if policy not in DRIFT:
        message = f"schemaDrift.policy must be one of {', '.join(DRIFT)}"
        if policy == "add_nullable":
            message += "; add_nullable is now note: a column is stored once the contract names it, not before"
        yield where, Code.CONTRACT_DRIFT, message
    for alias in custom["schemaDrift"].get("aliases", ()):
        if {"from", "to", "since"} - alias.keys() or alias["to"] not in names or not _is_date(alias["since"]):
            yield where, Code.CONTRACT_DRIFT, "an alias needs from, to (a column) and since (a date, in quotes)"
    corrections, where = custom["corrections"], ["customProperties", lines.index("corrections")]
    if corrections.get("policy") not in CORRECTIONS:
        yield where, Code.CONTRACT_CORRECTIONS, f"corrections.policy must be one of {', '.join(CORRECTIONS)}"
    if (corrections.get("policy") == "versioned") != ("versionColumn" in corrections):
        yield where, Code.CONTRACT_CORRECTIONS, "the policy versioned needs a versionColumn; other policies have none"
    if "versionColumn" in corrections and corrections["versionColumn"] not in names:
        wanted = corrections["versionColumn"]
        yield where, Code.CONTRACT_CORRECTIONS, f"unknown column {wanted!r}{did_you_mean(str(wanted), map(str, names))}"
    retention = [item for item in document["slaProperties"] if item.get("property") == "retention"]
    if len(retention) != 1 or retention[0].get("unit") not in ("d", "m", "y") or type(retention[0]["value"]) is not int:
        yield (
            ["slaProperties"],
            Code.CONTRACT_RETENTION,
            "retention must be a number of days, months or years, such as 7y",
        )


def _is_date(text: Any) -> bool:
    try:
        date.fromisoformat(text)
    except (TypeError, ValueError):
        return False
    return True
