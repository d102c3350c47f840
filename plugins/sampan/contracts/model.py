"""The contract of a feed, read from an ODCS v3 file: the only list of feeds, and what everything else is derived from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import yaml

from sampan.errors import PermanentFailure, Problem
from sampan.settings import HOME

FEEDS = HOME / "expectations" / "feeds"
SQL_TYPES = {
    "string": "text",
    "integer": "bigint",
    "number": "numeric",
    "date": "date",
    "timestamp": "timestamptz",
    "boolean": "boolean",
}
FORMATS = ("csv", "jsonl", "parquet", "xlsx", "fixed")
COMPRESSIONS = ("none", "gzip", "zstd")
CORRECTIONS = ("append", "replace_period", "versioned")
DRIFT = ("fail", "add_nullable", "ignore")
PERSONAL = ("none", "drop", "pseudonymise")
SEVERITIES = ("critical", "error", "warning", "info")
COLUMN_PROPERTIES = {"personalData", "personalDataPattern", "unit", "scale", "start", "length"}
CONTRACT_PROPERTIES = {"calendar", "rejectionBudget", "schemaDrift", "corrections"}
SERVER_PROPERTIES = {"encoding", "compression", "sheet", "headerRow", "maxBytes"}
REQUEST_PROPERTIES = {
    "format", "baseUrl", "baseUrlVariable", "parameters", "each", "batch", "pagination", "records", "total", "success",
    "failures", "pauseSeconds",
}  # fmt: skip
ACTIONS = ("empty", "step_back", "drop_named", "transient", "permanent")
# The greatest repetition that PostgreSQL counts.
MAX_COUNT = 255
OPTIONS = {
    "string": {"pattern", "minLength", "maxLength"},
    "integer": {"minimum", "maximum"},
    "number": {"minimum", "maximum", "exclusiveMinimum"},
    "date": {"minimum", "maximum"},
    "timestamp": {"minimum", "maximum"},
    "boolean": set(),
}


@dataclass(frozen=True)
class Column:
    """One column. `type` is the warehouse's, `logical_type` the standard's; `source_name` is the delivery's heading."""

    name: str
    source_name: str
    logical_type: str
    description: str
    required: bool = False
    key_position: int | None = None
    unit: str | None = None
    scale: int | None = None
    personal: str = "none"
    personal_pattern: str | None = None
    enum: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    start: int | None = None
    length: int | None = None

    @property
    def type(self) -> str:
        """Type of the column in the warehouse."""
        return SQL_TYPES[self.logical_type]

    @property
    def primary_key(self) -> bool:
        """Whether the column is part of the key."""
        return self.key_position is not None

    @property
    def expects_hkid(self) -> bool:
        """Whether a value may be an HKID number, and is personal data only then."""
        return self.personal == "pseudonymise" and self.personal_pattern == "hkid"

    @property
    def wholly_personal(self) -> bool:
        """Whether every value is personal data."""
        return self.personal != "none" and not self.expects_hkid


@dataclass(frozen=True)
class Rule:
    """A check. A row rule has a `predicate` that each row must meet; a batch rule an `expectation` with its `kwargs`."""

    name: str
    description: str
    severity: str
    predicate: str | None = None
    expectation: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One API that a feed is asked from. Paths into its answers are JMESPath expressions.

    `parameters` may hold `{business_date}`, moved by days (`{business_date-45}`) or months (`-13m`) and with a format
    (`{business_date:%Y%m}`).
    `each` multiplies the request: one for every combination of its entries, an entry being a list of parameters or the
    values of a column of another feed. `batch` spreads many values of one parameter over requests of a size.
    `success` says how an answer that succeeded looks and where one that failed keeps its message; `failures` what a
    message means: an action of ACTIONS by pattern, the first that matches.
    """

    name: str
    location: str
    base: str = ""
    base_variable: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    each: tuple[Any, ...] = ()
    batch: dict[str, Any] = field(default_factory=dict)
    pagination: dict[str, Any] = field(default_factory=dict)
    records: str = ""
    total: str = ""
    success: dict[str, Any] = field(default_factory=dict)
    failures: tuple[dict[str, str], ...] = ()
    pause_seconds: float = 0.0


@dataclass(frozen=True)
class Source:
    """Where deliveries come from and how they are written. `kind`: s3 (a drop prefix) or api (HTTP)."""

    kind: str
    location: str
    format: str
    encoding: str = "utf-8"
    compression: str = "none"
    delimiter: str = ","
    sheet: str | None = None
    header_row: int = 1
    requests: tuple[Request, ...] = ()
    max_bytes: int = 20_000_000_000

    @property
    def extension(self) -> str:
        """Ending of a landed file: csv.gz, jsonl.zst, ..."""
        return self.format + {"none": "", "gzip": ".gz", "zstd": ".zst"}[self.compression]

    @property
    def asks_about(self) -> frozenset[str]:
        """Feeds whose published rows say what the API is asked for."""
        entries = (entry for request in self.requests for entry in request.each)
        return frozenset(entry["feed"] for entry in entries if isinstance(entry, dict))


@dataclass(frozen=True)
class Calendar:
    """When a delivery is due: `days` is business, daily, weekly, monthly or event, `due` HH:MM in `timezone`.

    `day` is the day of the week (1 Monday) of a weekly delivery and the day of the month of a monthly one.
    """

    days: str
    due: str
    timezone: str
    missing: str
    empty: str
    deadline_minutes: int = 60
    day: int | None = None


@dataclass(frozen=True)
class Alias:
    """A heading that a partner uses since a date in the place of the contract's."""

    source_name: str
    column: str
    since: date


@dataclass(frozen=True)
class Contract:
    """One feed. Grain and key, columns, source, calendar, rules, budget, drift and correction policy, retention."""

    feed: str
    partner: str
    title: str
    version: str
    description: str
    limitations: str
    usage: str
    owner: str
    contact: str
    grain: str
    columns: tuple[Column, ...]
    source: Source
    calendar: Calendar
    row_rules: tuple[Rule, ...]
    batch_rules: tuple[Rule, ...]
    budget: float
    drift: str
    aliases: tuple[Alias, ...]
    corrections: str
    version_column: str | None
    retention_days: int
    path: Path

    @property
    def key(self) -> tuple[str, ...]:
        """Names of the key's columns, in their order."""
        keyed = sorted((c for c in self.columns if c.key_position is not None), key=lambda c: c.key_position or 0)
        return tuple(c.name for c in keyed)

    @property
    def stored(self) -> tuple[Column, ...]:
        """Columns that reach a table: all but personal data that is dropped."""
        return tuple(c for c in self.columns if c.personal != "drop")

    def column(self, name: str) -> Column:
        """The column of a name."""
        return next(c for c in self.columns if c.name == name)

    @property
    def drop_prefix(self) -> str:
        """Prefix of this feed inside the drop bucket."""
        return f"{self.partner}/{self.feed}/"


def _custom(items: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {item["property"]: item["value"] for item in items or []}


def _days(value: Any, unit: str) -> int:
    return int(value) * {"d": 1, "m": 31, "y": 366}[unit]


def _column(item: dict[str, Any]) -> Column:
    custom = _custom(item.get("customProperties"))
    return Column(
        name=item["name"],
        source_name=str(item.get("physicalName") or item["name"]),
        logical_type=item["logicalType"],
        description=item["description"],
        required=bool(item.get("required")),
        key_position=item.get("primaryKeyPosition") if item.get("primaryKey") else None,
        unit=custom.get("unit"),
        scale=custom.get("scale"),
        personal=custom.get("personalData", "none"),
        personal_pattern=custom.get("personalDataPattern"),
        enum=tuple(str(choice["value"]) for choice in item.get("enum") or ()),
        options=dict(item.get("logicalTypeOptions") or {}),
        start=custom.get("start"),
        length=custom.get("length"),
    )


def _rule(item: dict[str, Any]) -> Rule:
    name, text = item["name"], item.get("description", "")
    severity = item.get("severity", "critical")
    if item.get("metric") == "rowCount":
        if "mustBeBetween" in item:
            low, high = item["mustBeBetween"]
        else:
            low, high = item.get("mustBeGreaterOrEqualTo"), item.get("mustBeLessOrEqualTo")
        kwargs = {"min_value": low, "max_value": high}
        return Rule(name, text, severity, expectation="expect_table_row_count_to_be_between", kwargs=kwargs)
    if item.get("engine") == "row":
        return Rule(name, text, severity, predicate=str(item["implementation"]))
    implementation = item["implementation"]
    return Rule(name, text, severity, expectation=implementation["type"], kwargs=dict(implementation["kwargs"]))


def _request(item: dict[str, Any]) -> Request:
    custom = _custom(item.get("customProperties"))
    return Request(
        name=item["server"],
        location=item["location"],
        base=custom.get("baseUrl", ""),
        base_variable=custom.get("baseUrlVariable", ""),
        parameters={key: str(value) for key, value in (custom.get("parameters") or {}).items()},
        each=tuple(custom.get("each") or ()),
        batch=custom.get("batch") or {},
        pagination=custom.get("pagination") or {},
        records=custom.get("records", ""),
        total=custom.get("total", ""),
        success=custom.get("success") or {},
        failures=tuple(custom.get("failures") or ()),
        pause_seconds=float(custom.get("pauseSeconds", 0)),
    )


def _source(servers: list[dict[str, Any]]) -> Source:
    item, kind = servers[0], servers[0]["type"]
    custom = _custom(item.get("customProperties"))
    return Source(
        kind=kind,
        location=item["location"],
        format=item.get("format") or custom.get("format", "jsonl"),
        encoding=custom.get("encoding", "utf-8"),
        compression=custom.get("compression", "none"),
        delimiter=item.get("delimiter", ","),
        sheet=custom.get("sheet"),
        header_row=int(custom.get("headerRow", 1)),
        requests=tuple(map(_request, servers)) if kind == "api" else (),
        max_bytes=int(custom.get("maxBytes", Source.max_bytes)),
    )


def _contract(document: dict[str, Any], path: Path) -> Contract:
    table = document["schema"][0]
    custom = _custom(document["customProperties"])
    calendar, drift, corrections = custom["calendar"], custom["schemaDrift"], custom["corrections"]
    sla = {item["property"]: item for item in document["slaProperties"]}
    rules = [_rule(item) for item in table.get("quality") or ()]
    description = document["description"]
    return Contract(
        feed=document["id"],
        partner=document["domain"],
        title=document["name"],
        version=document["version"],
        description=description["purpose"],
        limitations=description.get("limitations", ""),
        usage=description.get("usage", ""),
        owner=document["team"]["name"],
        contact=document["team"]["members"][0]["username"],
        grain=table["dataGranularityDescription"],
        columns=tuple(_column(item) for item in table["properties"]),
        source=_source(document["servers"]),
        calendar=Calendar(
            days=calendar["days"],
            due=calendar["due"],
            timezone=calendar["timezone"],
            missing=calendar["missing"],
            empty=calendar["empty"],
            deadline_minutes=int(calendar.get("deadlineMinutes", 60)),
            day=calendar.get("day"),
        ),
        row_rules=tuple(rule for rule in rules if rule.predicate is not None),
        batch_rules=tuple(rule for rule in rules if rule.expectation is not None),
        budget=float(custom["rejectionBudget"]),
        drift=drift["policy"],
        aliases=tuple(
            Alias(alias["from"], alias["to"], date.fromisoformat(alias["since"])) for alias in drift.get("aliases", ())
        ),
        corrections=corrections["policy"],
        version_column=corrections.get("versionColumn"),
        retention_days=_days(sla["retention"]["value"], sla["retention"]["unit"]),
        path=path,
    )


@cache
def _load_all(folder: Path) -> dict[str, Contract]:
    contracts = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            contracts[path.stem] = _contract(yaml.load(path.read_bytes(), yaml.CSafeLoader), path)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, yaml.YAMLError) as error:
            problems = check(path)
            raise PermanentFailure(
                problems[0] if problems else Problem("contract.unreadable", str(error), str(path))
            ) from error
    if not contracts:
        raise PermanentFailure(check_all(folder)[0])
    return contracts


def load_all(folder: Path | None = None) -> dict[str, Contract]:
    """Every contract by feed, in order of feed. A folder without any is refused; so is the first wrong one, with its line."""
    return _load_all(folder or FEEDS)


def load(feed: str) -> Contract:
    """The contract of one feed. Raises PermanentFailure when there is none."""
    contracts = load_all()
    if feed not in contracts:
        raise PermanentFailure(Problem("contract.unknown_feed", f"no feed {feed!r}; feeds: {', '.join(contracts)}"))
    return contracts[feed]


# --- checking ---------------------------------------------------------------------------------------------------------


@cache
def _standard() -> Any:
    import jsonschema
    import open_data_contract_standard

    schema = json.loads((Path(open_data_contract_standard.__file__).parent / "schema.json").read_text())
    return jsonschema.validators.validator_for(schema)(schema)


def _line(root: yaml.Node | None, path: list[Any]) -> int | None:
    """Line of the node at `path`, or of the nearest one above it that exists."""
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
    return node.start_mark.line + 1 if node is not None else None


def _repeated(root: yaml.Node | None) -> Iterator[tuple[str, int]]:
    """Keys that stand twice in one mapping, with the line of the later one: YAML takes that and drops the others."""
    nodes, known = [root], {id(root)}
    for node in nodes:
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, _ in node.value:
                if str(key.value) in keys:
                    yield str(key.value), key.start_mark.line + 1
                keys.add(str(key.value))
            inner = [value for _, value in node.value]
        # An alias leads back to a node that was seen, in the worst case to itself.
        nodes += [child for child in inner if id(child) not in known]
        known |= {id(child) for child in inner}


def check(path: Path) -> list[Problem]:
    """All that is wrong with one contract file; empty when it may be used."""
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, yaml.CSafeLoader)
        document = yaml.load(text, yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        return [Problem("contract.yaml", str(error.problem), str(path), line)]
    except OSError as error:
        return [Problem("contract.unreadable", error.strerror or str(error), str(path))]
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        return [Problem("contract.yaml", str(error), str(path), 1)]
    if not isinstance(document, dict):
        return [Problem("contract.yaml", "a contract is a mapping", str(path), 1)]
    repeated = [Problem("contract.yaml", f"{key!r} stands twice", str(path), line) for key, line in _repeated(root)]
    if repeated:
        return repeated
    found = [
        (list(error.absolute_path), "contract.standard", _deepest(error)) for error in _standard().iter_errors(document)
    ]
    if not found:
        found = list(_meaning(document, path))
    problems = (Problem(rule, message, str(path), _line(root, where)) for where, rule, message in found)
    return sorted(set(problems), key=lambda problem: (problem.line or 0, problem.message))


def check_all(folder: Path | None = None) -> list[Problem]:
    """All that is wrong with the contracts of a folder, the absence of any contract included."""
    paths = sorted((folder or FEEDS).glob("*.yaml"))
    if not paths:
        return [Problem("contract.none", "no contract found", str(folder or FEEDS))]
    return [problem for path in paths for problem in check(path)]


def _deepest(error: Any) -> str:
    while error.context:
        error = max(error.context, key=lambda inner: len(inner.absolute_path))
    where = ".".join(str(step) for step in error.absolute_path)
    return f"{where}: {error.message}"[:400]


Finding = tuple[list[Any], str, str]


def _meaning(document: dict[str, Any], path: Path) -> Iterator[Finding]:
    """What Sampan needs beyond the standard; a shape that nobody thought of is a finding too."""
    sound = True
    try:
        for finding in _semantic(document, path):
            sound = False
            yield finding
        if sound:
            _contract(document, path)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        yield [], "contract.shape", f"something is not of the expected shape: {type(error).__name__}: {error}"


def _semantic(document: dict[str, Any], path: Path) -> Iterator[Finding]:
    """What Sampan needs, part by part."""
    if document["id"] != path.stem:
        yield ["id"], "contract.id", f"id {document['id']!r} differs from the file's name {path.stem!r}"
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", str(document["id"])):
        yield ["id"], "contract.id", "a feed's id is lower snake case, at most 40 characters"
    missing = [
        key
        for key in ("name", "domain", "description", "team", "servers", "schema", "slaProperties", "customProperties")
        if not document.get(key)
    ]
    for key in missing:
        yield [], "contract.missing", f"{key} is missing"
    if missing:
        return
    if not document["description"].get("purpose"):
        yield ["description"], "contract.missing", "description.purpose is missing"
    if not isinstance(document["team"], dict) or not (document["team"].get("members") and document["team"].get("name")):
        yield ["team"], "contract.missing", "team needs a name and a member to tell"
    if len(document["schema"]) != 1:
        yield ["schema"], "contract.schema", "a feed has exactly one table"
        return
    table = document["schema"][0]
    columns = table.get("properties") or []
    names = [item.get("name") for item in columns]
    if not table.get("dataGranularityDescription"):
        yield ["schema", 0], "contract.missing", "dataGranularityDescription (the grain) is missing"
    if not any(item.get("primaryKey") for item in columns):
        yield ["schema", 0], "contract.key", "no column is part of the primary key"
    for position, item in enumerate(columns):
        for rule, message in _check_column(item, names[:position]):
            yield ["schema", 0, "properties", position], rule, message
    seen: set[str] = set()
    for position, item in enumerate(table.get("quality") or ()):
        for rule, message in _check_rule(item, {str(name) for name in names}, seen):
            yield ["schema", 0, "quality", position], rule, message
    yield from _check_server(document, columns, path.parent)
    yield from _check_custom(document, names)


def _check_column(item: dict[str, Any], before: list[Any]) -> Iterator[tuple[str, str]]:
    name = str(item.get("name"))
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", name):
        yield "contract.column", f"column {name!r} is not lower snake case"
    if name in before:
        yield "contract.column", f"column {name!r} stands twice"
    if item.get("logicalType") not in SQL_TYPES:
        yield "contract.type", f"{name}: logicalType is one of {', '.join(SQL_TYPES)}"
        return
    if not item.get("description"):
        yield "contract.missing", f"{name}: description is missing"
    if item.get("primaryKey") and not item.get("primaryKeyPosition"):
        yield "contract.key", f"{name}: primaryKeyPosition is missing"
    options = item.get("logicalTypeOptions") or {}
    bounded = item["logicalType"] != "string" or item.get("enum") or {"pattern", "maxLength"} & options.keys()
    if item.get("primaryKey") and not bounded:
        yield (
            "contract.key",
            f"{name}: a text of the key needs a pattern, codes or a maxLength: an index holds short ones",
        )
    if item.get("primaryKey") and not item.get("required"):
        yield "contract.key", f"{name}: a key column is required"
    custom = _custom(item.get("customProperties"))
    for unknown in custom.keys() - COLUMN_PROPERTIES:
        yield "contract.unknown_property", f"{name}: unknown property {unknown!r}"
    if custom.get("personalData", "none") not in PERSONAL:
        yield "contract.personal_data", f"{name}: personalData is one of {', '.join(PERSONAL)}"
    pattern = custom.get("personalDataPattern", "hkid")
    if pattern != "hkid":
        yield "contract.personal_data", f"{name}: personalDataPattern is hkid where there is one"
    elif "personalDataPattern" in custom and custom.get("personalData") != "pseudonymise":
        yield "contract.personal_data", f"{name}: what has a personalDataPattern is pseudonymised"
    for unknown in options.keys() - OPTIONS[item["logicalType"]]:
        yield "contract.option", f"{name}: {unknown!r} means nothing for {item['logicalType']}"
    if "pattern" in options:
        try:
            re.compile(options["pattern"])
        except re.error as error:
            yield "contract.pattern", f"{name}: pattern does not compile: {error}"
        counts = re.findall(r"\{([0-9]+)(?:,([0-9]*))?\}", options["pattern"])
        if max((int(count) for pair in counts for count in pair if count), default=0) > MAX_COUNT:
            yield "contract.pattern", f"{name}: the warehouse counts to {MAX_COUNT} in a pattern; use maxLength"
    if item["logicalType"] in ("date", "timestamp"):
        for bound in {"minimum", "maximum"} & options.keys():
            if not _is_date(str(options[bound])[:10]):
                yield "contract.option", f"{name}: {bound} {options[bound]!r} is not a date"


def _check_rule(item: dict[str, Any], names: set[str], seen: set[str]) -> Iterator[tuple[str, str]]:
    name = item.get("name")
    if not name:
        yield "contract.rule", "a rule needs a name"
        return
    if name in seen:
        yield "contract.rule", f"rule {name!r} stands twice"
    seen.add(name)
    if item.get("severity", "critical") not in SEVERITIES:
        yield "contract.rule", f"{name}: severity is one of {', '.join(SEVERITIES)}"
    if item.get("metric"):
        if item["metric"] != "rowCount":
            yield "contract.rule", f"{name}: of the library metrics only rowCount is used; write a row rule instead"
        return
    if item.get("engine") == "row":
        yield from _check_predicate(str(name), str(item.get("implementation")), names)
    elif item.get("engine") == "greatExpectations":
        yield from _check_expectation(str(name), item.get("implementation"), names)
    else:
        yield "contract.rule", f"{name}: engine is row or greatExpectations"


def _check_predicate(name: str, predicate: str, names: set[str]) -> Iterator[tuple[str, str]]:
    for message in _query_faults(f"select 1 where {predicate}", names | {"business_date"}, ()):
        yield "contract.predicate", f"{name}: {message}"


def _query_faults(query: str, names: set[str], tables: tuple[str, ...]) -> Iterator[str]:
    """What keeps a query out of a contract: it is not SQL, or reads more than `names` of `tables` (its own row if none)."""
    import sqlglot
    from sqlglot import exp

    try:
        tree = sqlglot.parse_one(query, dialect="postgres")
    except sqlglot.errors.SqlglotError as error:
        yield f"not SQL: {str(error).splitlines()[0]}"
        return
    if not isinstance(tree, exp.Query):
        yield "not a query"
    elif not tables and tree.find(exp.Subquery, exp.From):
        yield "a row rule looks at its own row only"
    for table in tree.find_all(exp.Table) if tables else ():
        if table.sql() not in tables:
            yield f"reads {table.sql()}, which is not the batch"
    for function in tree.find_all(exp.Anonymous):
        yield f"{function.name} is no function of portable SQL"
    for column in tree.find_all(exp.Column):
        if column.name not in names:
            yield f"no column {column.name!r}"


def _check_expectation(name: str, implementation: Any, names: set[str]) -> Iterator[tuple[str, str]]:
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    if not isinstance(implementation, dict) or {"type", "kwargs"} - implementation.keys():
        yield "contract.expectation", f"{name}: implementation needs type and kwargs"
        return
    if implementation["type"] not in list_registered_expectation_implementations():
        yield "contract.expectation", f"{name}: no expectation {implementation['type']!r}"
    kwargs = implementation["kwargs"]
    column = kwargs.get("column")
    if column is not None and column not in names:
        yield "contract.expectation", f"{name}: no column {column!r}"
    if "unexpected_rows_query" in kwargs:
        query = str(kwargs["unexpected_rows_query"]).replace("{batch}", "batch")
        for message in _query_faults(query, names, ("batch",)):
            yield "contract.expectation", f"{name}: {message}"


def _check_server(document: dict[str, Any], columns: list[dict[str, Any]], folder: Path) -> Iterator[Finding]:
    servers, prefix = document["servers"], f"s3://drop/{document['domain']}/{document['id']}/"
    if len({server["type"] for server in servers}) != 1 or (len(servers) > 1 and servers[0]["type"] != "api"):
        yield ["servers"], "contract.server", "a feed has exactly one server, or several APIs"
        return
    for position, server in enumerate(servers):
        where: list[Any] = ["servers", position]
        custom, api = _custom(server.get("customProperties")), server["type"] == "api"
        if server["type"] not in ("s3", "api"):
            yield where, "contract.server", "server type is s3 or api"
        if server["type"] == "s3" and server.get("location") != prefix:
            yield where, "contract.server", f"location is {prefix}, which follows from domain and id"
        written = server.get("format") or custom.get("format") or ("jsonl" if api else None)
        if written not in FORMATS:
            yield where, "contract.server", f"format is one of {', '.join(FORMATS)}"
        if custom.get("compression", "none") not in COMPRESSIONS:
            yield where, "contract.server", f"compression is one of {', '.join(COMPRESSIONS)}"
        try:
            plain = '\n,"'.encode(custom.get("encoding", "utf-8").removesuffix("-sig")) == b'\n,"'
        except LookupError:
            yield where, "contract.server", f"unknown encoding {custom['encoding']!r}"
        else:
            if not plain:
                yield (
                    where,
                    "contract.server",
                    f"encoding {custom['encoding']!r} writes signs in other bytes than ASCII",
                )
        delimiter = server.get("delimiter", ",")
        if len(delimiter) != 1 or delimiter in '"\r\n':
            yield where, "contract.server", f"delimiter {delimiter!r} is not one character, or one of quotes and lines"
        for unknown in custom.keys() - (SERVER_PROPERTIES | REQUEST_PROPERTIES if api else SERVER_PROPERTIES):
            yield where, "contract.unknown_property", f"unknown server property {unknown!r}"
        findings = _check_request(server, custom, len(servers), folder) if api else ()
        yield from ((where, rule, message) for rule, message in findings)
        if written == "fixed":
            yield from _check_spans(columns)


def _check_spans(columns: list[dict[str, Any]]) -> Iterator[Finding]:
    """Fields of a fixed-width record stand in order, none in another."""
    end = 0
    for position, item in enumerate(columns):
        custom, where = _custom(item.get("customProperties")), ["schema", 0, "properties", position]
        start, length = custom.get("start"), custom.get("length")
        if not (isinstance(start, int) and isinstance(length, int) and start > 0 and length > 0):
            yield where, "contract.span", f"{item.get('name')}: a field of a fixed-width record needs start and length"
        elif start <= end:
            yield where, "contract.span", f"{item.get('name')}: starts at {start}, inside the field before"
        else:
            end = start + length - 1


def _check_request(
    server: dict[str, Any], custom: dict[str, Any], servers: int, folder: Path
) -> Iterator[tuple[str, str]]:
    rule = "contract.request"
    if bool(custom.get("baseUrl")) != bool(custom.get("baseUrlVariable")):
        yield rule, "baseUrl and baseUrlVariable go together"
    if not server["location"].startswith(custom.get("baseUrl", "")):
        yield rule, "location begins with baseUrl"
    if custom.get("format", "jsonl") != "jsonl":
        answered = custom.keys() & {"each", "batch", "pagination", "records", "total", "success", "failures"}
        if servers > 1 or answered:
            yield (
                rule,
                f"a {custom['format']} file is asked for once and kept as it is: no {', '.join(sorted(answered))}",
            )
        return
    success = custom.get("success") or {}
    paths = {"records": custom.get("records"), "total": custom.get("total")}
    paths |= {f"success.{name}": success.get(name) for name in ("path", "message")}
    if not custom.get("records"):
        yield rule, "records (where an answer keeps its records) is missing"
    if ("path" in success) != ("equals" in success) or success.keys() - {"path", "equals", "message"}:
        yield rule, "success has path and equals, and message"
    for name, path in paths.items():
        yield from _check_path(name, path)
    paging = custom.get("pagination")
    if paging is not None and (paging.keys() != {"style", "limit", "offset", "size"} or paging["style"] != "offset"):
        yield rule, "pagination has style (offset), limit, offset and size"
    for entry in custom.get("each") or ():
        if isinstance(entry, dict):
            yield from _check_lookup(entry, folder)
        elif not entry or not all(isinstance(choice, dict) for choice in entry):
            yield rule, "an entry of each is a list of parameters, or parameter, feed and column"
    batch = custom.get("batch")
    if batch is not None and (batch.keys() != {"parameter", "size", "values"} or not batch["values"]):
        yield rule, "batch has parameter, size and values"
    for failure in custom.get("failures") or ():
        yield from _check_failure(failure, batch)


def _check_path(name: str, path: Any) -> Iterator[tuple[str, str]]:
    import jmespath

    try:
        jmespath.compile(path or "@")
    except jmespath.exceptions.JMESPathError as error:
        yield "contract.request", f"{name}: not a JMESPath expression: {str(error).splitlines()[0]}"


def _check_lookup(entry: dict[str, Any], folder: Path) -> Iterator[tuple[str, str]]:
    """Values of another feed: that feed has the column, and `where` looks at its rows only."""
    if {"parameter", "feed", "column", "where", "limit"} != entry.keys():
        yield "contract.request", "values of a feed need parameter, feed, column, where and limit"
        return
    path = folder / f"{entry['feed']}.yaml"
    if not path.exists():
        yield "contract.request", f"no feed {entry['feed']!r}"
        return
    other = yaml.load(path.read_bytes(), yaml.CSafeLoader)
    names = {str(item["name"]) for item in other["schema"][0]["properties"]}
    if entry["column"] not in names:
        yield "contract.request", f"{entry['feed']}: no column {entry['column']!r}"
    yield from _check_predicate(f"values of {entry['feed']}", str(entry["where"]), names)


def _check_failure(failure: dict[str, Any], batch: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    if failure.keys() != {"match", "action"} or failure["action"] not in ACTIONS:
        yield "contract.request", f"a failure has match and action, one of {', '.join(ACTIONS)}"
        return
    try:
        groups = re.compile(failure["match"]).groups
    except re.error as error:
        yield "contract.request", f"match {failure['match']!r} does not compile: {error}"
        return
    if failure["action"] == "drop_named" and (not batch or groups != 1):
        yield "contract.request", "drop_named needs a batch, and one group in match that holds what is named"


def _check_custom(document: dict[str, Any], names: list[Any]) -> Iterator[Finding]:
    custom = _custom(document["customProperties"])
    lines = [item["property"] for item in document["customProperties"]]
    where: list[Any] = ["customProperties"]
    for unknown in custom.keys() - CONTRACT_PROPERTIES:
        yield [*where, lines.index(unknown)], "contract.unknown_property", f"unknown property {unknown!r}"
    absent = CONTRACT_PROPERTIES - custom.keys()
    for key in sorted(absent):
        yield where, "contract.missing", f"{key} is missing"
    if absent:
        return
    calendar, where = custom["calendar"], ["customProperties", lines.index("calendar")]
    for key in ("days", "due", "timezone", "missing", "empty"):
        if key not in calendar:
            yield where, "contract.calendar", f"calendar.{key} is missing"
    if calendar.get("days") not in ("business", "daily", "weekly", "monthly", "event"):
        yield where, "contract.calendar", "calendar.days is business, daily, weekly, monthly or event"
    last = {"weekly": 7, "monthly": 28}.get(str(calendar.get("days")))
    if calendar.get("day") not in (range(1, last + 1) if last else (None,)):
        yield where, "contract.calendar", "calendar.day is 1 to 7 with weekly, 1 to 28 with monthly, and not otherwise"
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", str(calendar.get("due"))):
        yield where, "contract.calendar", "calendar.due is HH:MM, in quotes"
    if calendar.get("timezone") not in available_timezones():
        yield where, "contract.calendar", f"calendar.timezone {calendar.get('timezone')!r} is none"
    if calendar.get("missing") not in ("late", "accept"):
        yield where, "contract.calendar", "calendar.missing is late or accept"
    if calendar.get("empty") not in ("hold", "accept"):
        yield where, "contract.calendar", "calendar.empty is hold or accept"
    budget, where = custom["rejectionBudget"], ["customProperties", lines.index("rejectionBudget")]
    if not isinstance(budget, int | float) or isinstance(budget, bool) or not 0 <= budget <= 1:
        yield where, "contract.budget", "rejectionBudget is a share from 0 to 1"
    where = ["customProperties", lines.index("schemaDrift")]
    if custom["schemaDrift"].get("policy") not in DRIFT:
        yield where, "contract.drift", f"schemaDrift.policy is one of {', '.join(DRIFT)}"
    for alias in custom["schemaDrift"].get("aliases", ()):
        if {"from", "to", "since"} - alias.keys() or alias["to"] not in names or not _is_date(alias["since"]):
            yield where, "contract.drift", "an alias has from, to (a column) and since (a date, in quotes)"
    corrections, where = custom["corrections"], ["customProperties", lines.index("corrections")]
    if corrections.get("policy") not in CORRECTIONS:
        yield where, "contract.corrections", f"corrections.policy is one of {', '.join(CORRECTIONS)}"
    if (corrections.get("policy") == "versioned") != ("versionColumn" in corrections):
        yield where, "contract.corrections", "versionColumn goes with the policy versioned, and only with it"
    if "versionColumn" in corrections and corrections["versionColumn"] not in names:
        yield where, "contract.corrections", f"no column {corrections['versionColumn']!r}"
    retention = [item for item in document["slaProperties"] if item.get("property") == "retention"]
    if len(retention) != 1 or retention[0].get("unit") not in ("d", "m", "y") or type(retention[0]["value"]) is not int:
        yield ["slaProperties"], "contract.retention", "slaProperties needs one retention in d, m or y"


def _is_date(text: Any) -> bool:
    try:
        date.fromisoformat(text)
    except (TypeError, ValueError):
        return False
    return True
