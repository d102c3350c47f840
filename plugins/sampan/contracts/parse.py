"""A contract out of an ODCS document."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from sampan.contracts.model import (
    DEFAULT_BOUNDS,
    Alias,
    Bounds,
    Calendar,
    Column,
    Contract,
    Request,
    Rule,
    Source,
    custom_properties,
)


def _days(value: Any, unit: str) -> int:
    return int(value) * {"d": 1, "m": 31, "y": 366}[unit]


def _column(item: dict[str, Any]) -> Column:
    custom = custom_properties(item.get("customProperties"))
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
        staged_as=custom.get("stagedAs", item["name"]),
        identifies=custom.get("identifies"),
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
    custom = custom_properties(item.get("customProperties"))
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
    custom = custom_properties(item.get("customProperties"))
    written = item.get("format") or custom.get("format", "jsonl")
    usual = DEFAULT_BOUNDS["api" if kind == "api" else written]
    return Source(
        kind=kind,
        location=item["location"],
        format=written,
        encoding=custom.get("encoding", "utf-8"),
        compression=custom.get("compression", "none"),
        delimiter=item.get("delimiter", ","),
        sheet=custom.get("sheet"),
        header_row=int(custom.get("headerRow", 1)),
        requests=tuple(map(_request, servers)) if kind == "api" else (),
        bounds=Bounds(
            max_bytes=int(custom.get("maxBytes", usual.max_bytes)),
            max_memory_bytes=int(custom.get("maxMemoryBytes", usual.max_memory_bytes)),
            max_seconds=int(custom.get("maxSeconds", usual.max_seconds)),
        ),
    )


def parse_contract(document: dict[str, Any], path: Path) -> Contract:
    """The contract of a valid document. Raises KeyError, TypeError or ValueError for an invalid one."""
    table = document["schema"][0]
    custom = custom_properties(document["customProperties"])
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
            unchanged=calendar.get("unchanged", "alert"),
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
        alert_on_rejected=custom.get("alertOnRejected", False),
        open_data_set=custom.get("openDataSet"),
        path=path,
    )
