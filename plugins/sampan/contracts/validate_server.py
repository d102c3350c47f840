"""Checks of the servers of a contract: how a delivery is written, and what an API is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sampan.contracts import shorthand
from sampan.contracts.model import (
    BOUND_PROPERTIES,
    COMPRESSIONS,
    FORMATS,
    REQUEST_PROPERTIES,
    SERVER_PROPERTIES,
    custom_properties,
)
from sampan.contracts.predicates import check_predicate
from sampan.errors import Code
from sampan.text import did_you_mean

# Path of a finding in the document, its code, its message.
Finding = tuple[list[Any], Code, str]
ACTIONS = ("empty", "step_back", "drop_named", "transient", "permanent")


def check_server(document: dict[str, Any], columns: list[dict[str, Any]], folder: Path) -> Iterator[Finding]:
    """Every error of the servers of a document that is valid ODCS."""
    servers, prefix = document["servers"], f"s3://drop/{document['domain']}/{document['id']}/"
    if len({server["type"] for server in servers}) != 1 or (len(servers) > 1 and servers[0]["type"] != "api"):
        yield ["servers"], Code.CONTRACT_SERVER, "a contract must have one server, or several of type api"
        return
    for position, server in enumerate(servers):
        where: list[Any] = ["servers", position]
        custom, api = custom_properties(server.get("customProperties")), server["type"] == "api"
        if server["type"] not in ("s3", "api"):
            yield where, Code.CONTRACT_SERVER, "server type must be s3 or api"
        if server["type"] == "s3" and server.get("location") != prefix:
            yield where, Code.CONTRACT_SERVER, f"location must be {prefix} (from domain and id); it may be left out"
        written = server.get("format") or custom.get("format") or ("jsonl" if api else None)
        if written not in FORMATS:
            yield where, Code.CONTRACT_SERVER, f"format must be one of {', '.join(FORMATS)}"
        if custom.get("compression", "none") not in COMPRESSIONS:
            yield where, Code.CONTRACT_SERVER, f"compression must be one of {', '.join(COMPRESSIONS)}"
        try:
            plain = '\n,"'.encode(custom.get("encoding", "utf-8").removesuffix("-sig")) == b'\n,"'
        except LookupError:
            yield where, Code.CONTRACT_SERVER, f"unknown encoding {custom['encoding']!r}"
        else:
            if not plain:
                yield (
                    where,
                    Code.CONTRACT_SERVER,
                    f"encoding {custom['encoding']!r} is not ASCII-compatible",
                )
        delimiter = server.get("delimiter", ",")
        if len(delimiter) != 1 or delimiter in '"\r\n':
            yield (
                where,
                Code.CONTRACT_SERVER,
                f"delimiter {delimiter!r} must be one character, not a quote or a line break",
            )
        known = SERVER_PROPERTIES | REQUEST_PROPERTIES if api else SERVER_PROPERTIES
        for unknown in custom.keys() - known:
            message = f"unknown server property {unknown!r}{did_you_mean(unknown, known)}"
            yield where, Code.CONTRACT_UNKNOWN_PROPERTY, message
        for name in sorted(BOUND_PROPERTIES & custom.keys()):
            # True is an int.
            if type(custom[name]) is not int or custom[name] < 1:
                yield where, Code.CONTRACT_SERVER, f"{name} must be a whole number above 0"
        findings = _check_request(server, custom, len(servers), folder) if api else ()
        yield from ((where, rule, message) for rule, message in findings)
        if written == "fixed":
            yield from _check_spans(columns)


def _check_spans(columns: list[dict[str, Any]]) -> Iterator[Finding]:
    """Fields of a fixed-width record must be in order and not overlap."""
    end = 0
    for position, item in enumerate(columns):
        custom, where = custom_properties(item.get("customProperties")), ["schema", 0, "properties", position]
        start, length = custom.get("start"), custom.get("length")
        if not (isinstance(start, int) and isinstance(length, int) and start > 0 and length > 0):
            yield (
                where,
                Code.CONTRACT_SPAN,
                f"{item.get('name')}: a field of a fixed-width record needs start and length",
            )
        elif start <= end:
            yield where, Code.CONTRACT_SPAN, f"{item.get('name')}: starts at {start}, inside the previous field"
        else:
            end = start + length - 1


def _check_request(
    server: dict[str, Any], custom: dict[str, Any], servers: int, folder: Path
) -> Iterator[tuple[Code, str]]:
    rule = Code.CONTRACT_REQUEST
    if bool(custom.get("baseUrl")) != bool(custom.get("baseUrlVariable")):
        yield rule, "baseUrl and baseUrlVariable must be given together"
    if not server["location"].startswith(custom.get("baseUrl", "")):
        yield rule, "location must begin with baseUrl"
    if custom.get("format", "jsonl") != "jsonl":
        answered = custom.keys() & {"each", "batch", "pagination", "records", "total", "success", "failures"}
        if servers > 1 or answered:
            others = ", ".join(sorted(answered)) or "the other servers"
            yield rule, f"a {custom['format']} file is downloaded as it is: remove {others}"
        return
    success = custom.get("success") or {}
    paths = {"records": custom.get("records"), "total": custom.get("total")}
    paths |= {f"success.{name}": success.get(name) for name in ("path", "message")}
    if not custom.get("records"):
        yield rule, "records (the path of the records in a response) is missing"
    if ("path" in success) != ("equals" in success) or success.keys() - {"path", "equals", "message"}:
        yield rule, "success needs path and equals together, and may have message"
    for name, path in paths.items():
        yield from _check_path(name, path)
    paging = custom.get("pagination")
    if paging is not None and (paging.keys() != {"style", "limit", "offset", "size"} or paging["style"] != "offset"):
        yield rule, "pagination needs style (offset), limit, offset and size"
    for entry in custom.get("each") or ():
        if isinstance(entry, dict):
            yield from _check_lookup(entry, folder)
        elif not entry or not all(isinstance(choice, dict) for choice in entry):
            yield rule, "an entry of each must be a list of parameters, or parameter, feed and column"
    batch = custom.get("batch")
    if batch is not None and (batch.keys() != {"parameter", "size", "values"} or not batch["values"]):
        yield rule, "batch needs parameter, size and values"
    for failure in custom.get("failures") or ():
        yield from _check_failure(failure, batch)


def _check_path(name: str, path: Any) -> Iterator[tuple[Code, str]]:
    import jmespath

    try:
        jmespath.compile(path or "@")
    except jmespath.exceptions.JMESPathError as error:
        yield Code.CONTRACT_REQUEST, f"{name}: not a JMESPath expression: {str(error).splitlines()[0]}"


def _check_lookup(entry: dict[str, Any], folder: Path) -> Iterator[tuple[Code, str]]:
    """Values of another feed: that feed must have the column, and `where` may read its rows only."""
    if {"parameter", "feed", "column", "where", "limit"} != entry.keys():
        yield Code.CONTRACT_REQUEST, "values of a feed need parameter, feed, column, where and limit"
        return
    path = folder / f"{entry['feed']}.yaml"
    if not path.exists():
        known = did_you_mean(str(entry["feed"]), (other.stem for other in folder.glob("*.yaml")))
        yield Code.CONTRACT_REQUEST, f"unknown feed {entry['feed']!r}{known}"
        return
    other = shorthand.read(path)
    names = {str(item["name"]) for item in other["schema"][0]["properties"]}
    if entry["column"] not in names:
        known = did_you_mean(str(entry["column"]), names)
        yield Code.CONTRACT_REQUEST, f"{entry['feed']}: unknown column {entry['column']!r}{known}"
    yield from check_predicate(f"values of {entry['feed']}", str(entry["where"]), names)


def _check_failure(failure: dict[str, Any], batch: dict[str, Any] | None) -> Iterator[tuple[Code, str]]:
    if failure.keys() != {"match", "action"} or failure["action"] not in ACTIONS:
        yield Code.CONTRACT_REQUEST, f"a failure needs match and action, one of {', '.join(ACTIONS)}"
        return
    try:
        groups = re.compile(failure["match"]).groups
    except re.error as error:
        yield Code.CONTRACT_REQUEST, f"match {failure['match']!r} is not a regular expression: {error}"
        return
    if failure["action"] == "drop_named" and (not batch or groups != 1):
        yield (
            Code.CONTRACT_REQUEST,
            "drop_named needs a batch, and match needs one group that captures what the message names",
        )
