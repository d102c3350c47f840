"""A contract file as its ODCS document: the partner's defaults go under it and each short form becomes the standard's.

A file in full ODCS is its own expansion. The short forms are for what the standard has many words for:

    anywhere        apiVersion, kind and a table's logicalType are filled in
    the contract    `contact: a@b` for team member and support channel, `retention: 7y` for the SLA property, and
                    `calendar`, `rejectionBudget`, `schemaDrift: fail`, `corrections: append`, `alertOnRejected: true`,
                    `openDataSet: name` for custom properties
    a server        custom properties as plain keys; the location of an s3 server follows from domain and id
    a table         `key: [a, b]` for primaryKey, primaryKeyPosition and required of its columns
    a column        `pattern`, `maxLength`, ... and `between: [low, high]` for logicalTypeOptions, `enum: [a, b]`, custom
                    properties as plain keys, `personalData: hkid` for pseudonyms of what has the form of an HKID number
    a rule          `row: <predicate>`, `rowCount: [low, high]`, `expect: {type, kwargs}`

It works on YAML nodes, so that every part of the document knows the file and line where it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from sampan.contracts.model import (
    COLUMN_PROPERTIES,
    CONTRACT_PROPERTIES,
    OPTIONAL_CONTRACT_PROPERTIES,
    PARTNERS,
    REQUEST_PROPERTIES,
    SERVER_PROPERTIES,
)

API_VERSION = "v3.2.0"
# Short forms of a rule: the standard's words for them, the key that takes their value, and their default severity.
RULE_FORMS = {
    "row": ({"type": "custom", "engine": "row", "severity": "error"}, "implementation"),
    "rowCount": ({"type": "library", "metric": "rowCount", "severity": "critical"}, "mustBeBetween"),
    "expect": ({"type": "custom", "engine": "greatExpectations", "severity": "warning"}, "implementation"),
}
TYPE_OPTIONS = ("pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum")
# A long form in a contract keeps the partner's defaults in short form out.
SHORT_PROPERTIES = CONTRACT_PROPERTIES | OPTIONAL_CONTRACT_PROPERTIES
LONG_FORMS = {"customProperties": SHORT_PROPERTIES, "slaProperties": ("retention",), "support": ("contact",)}

Entries = dict[str, yaml.Node]


def compose(path: Path) -> yaml.Node | None:
    """The YAML nodes of a file, each with its file and line. Raises OSError and yaml.YAMLError."""
    with path.open("rb") as file:
        return yaml.compose(file, yaml.CSafeLoader)


def expand(root: yaml.Node) -> yaml.Node:
    """The nodes of the ODCS document of a contract; parts of an unexpected form stay, for the check to name."""
    written = _entries(root)
    if written is None:
        return root
    entries = _merged(_defaults(written), written)
    at = root
    entries = {"apiVersion": _text(API_VERSION, at), "kind": _text("DataContract", at)} | entries
    _expand_contact(entries)
    _expand_retention(entries)
    for name in ("schemaDrift", "corrections"):
        if isinstance(policy := entries.get(name), yaml.ScalarNode):
            entries[name] = _mapping({"policy": policy}, policy)
    _lift(entries, SHORT_PROPERTIES, "customProperties", _property_list)
    _replace_items(entries, "servers", partial(_server, contract=entries))
    _replace_items(entries, "schema", _table)
    return _mapping(entries, at)


def construct(node: yaml.Node) -> Any:
    """The plain values of a node."""
    return yaml.constructor.SafeConstructor().construct_document(node)


def read(path: Path) -> Any:
    """The ODCS document of a contract file, unchecked. Raises OSError and yaml.YAMLError."""
    root = compose(path)
    return None if root is None else construct(expand(root))


def _defaults(written: Entries) -> Entries:
    domain = written.get("domain")
    if not isinstance(domain, yaml.ScalarNode) or not re.fullmatch(r"[a-z][a-z0-9_]*", domain.value):
        return {}
    path = PARTNERS / f"{domain.value}.yaml"
    root = compose(path) if path.exists() else None
    defaults = (root and _entries(root)) or {}
    long_forms = {short for long, shorts in LONG_FORMS.items() if long in written for short in shorts}
    return {name: node for name, node in defaults.items() if name not in long_forms}


def _merged(defaults: Entries, written: Entries) -> Entries:
    """The entries of both; of mappings that both have, the entries of both, and so on."""
    merged = written | {name: node for name, node in defaults.items() if name not in written}
    for name in defaults.keys() & written.keys():
        below, above = _entries(defaults[name]), _entries(written[name])
        if below is not None and above is not None:
            merged[name] = _mapping(_merged(below, above), written[name])
    return merged


def _expand_contact(entries: Entries) -> None:
    address = entries.get("contact")
    if not isinstance(address, yaml.ScalarNode):
        return
    team = _entries(entries.setdefault("team", _mapping({}, address)))
    if team is None or "members" in team or "support" in entries:
        return
    del entries["contact"]
    member = _mapping({"username": address, "role": _text("owner", address)}, address)
    entries["team"] = _mapping(team | {"members": _sequence([member], address)}, entries["team"])
    channel = {
        "channel": _text(address.value.partition("@")[0], address),
        "url": _text(f"mailto:{address.value}", address),
    }
    entries["support"] = _sequence([_mapping(channel, address)], address)


def _expand_retention(entries: Entries) -> None:
    written = entries.get("retention")
    match = re.fullmatch(r"([0-9]+)([dmy])", written.value) if isinstance(written, yaml.ScalarNode) else None
    if written is None or match is None or "slaProperties" in entries:
        return
    del entries["retention"]
    item = {
        "property": _text("retention", written),
        "value": yaml.ScalarNode("tag:yaml.org,2002:int", match[1], written.start_mark, written.end_mark),
        "unit": _text(match[2], written),
    }
    entries["slaProperties"] = _sequence([_mapping(item, written)], written)


def _server(entries: Entries, at: yaml.Node, contract: Entries) -> Entries:
    api = _is(entries.get("type"), "api")
    _lift(
        entries,
        SERVER_PROPERTIES | REQUEST_PROPERTIES if api else SERVER_PROPERTIES,
        "customProperties",
        _property_list,
    )
    if _is(entries.get("type"), "s3"):
        prefix = f"s3://drop/{_value(contract.get('domain'))}/{_value(contract.get('id'))}/"
        entries = {"location": _text(prefix, at)} | entries
    return entries


def _table(entries: Entries, at: yaml.Node) -> Entries:
    entries = {"logicalType": _text("object", at)} | entries
    keys = entries.pop("key", None)
    names = [_value(node) for node in keys.value] if isinstance(keys, yaml.SequenceNode) else []
    columns = entries.get("properties")
    known = (
        {_value((_entries(item) or {}).get("name")) for item in columns.value}
        if isinstance(columns, yaml.SequenceNode)
        else set()
    )
    if keys is not None and (not names or not set(names) <= known or len(names) > len(set(names))):
        entries["key"], names = keys, []
    _replace_items(entries, "properties", partial(_column, key=names))
    _replace_items(entries, "quality", _rule)
    return entries


def _column(entries: Entries, at: yaml.Node, key: list[str]) -> Entries:
    name = entries.get("name")
    if _value(name) in key:
        position = str(key.index(_value(name)) + 1)
        true = yaml.ScalarNode("tag:yaml.org,2002:bool", "true", at.start_mark, at.end_mark)
        number = yaml.ScalarNode("tag:yaml.org,2002:int", position, at.start_mark, at.end_mark)
        entries = {"primaryKey": true, "primaryKeyPosition": number, "required": true} | entries
    between = entries.get("between")
    if (
        isinstance(between, yaml.SequenceNode)
        and len(between.value) == 2
        and not entries.keys() & {"minimum", "maximum"}
    ):
        del entries["between"]
        entries["minimum"], entries["maximum"] = between.value
    _lift(entries, TYPE_OPTIONS, "logicalTypeOptions", _mapping)
    if _is(entries.get("personalData"), "hkid") and "personalDataPattern" not in entries:
        entries["personalDataPattern"] = entries["personalData"]
        entries["personalData"] = _text("pseudonymise", entries["personalData"])
    _lift(entries, COLUMN_PROPERTIES, "customProperties", _property_list)
    enum = entries.get("enum")
    if isinstance(enum, yaml.SequenceNode):
        choices = [_mapping({"value": v}, v) if isinstance(v, yaml.ScalarNode) else v for v in enum.value]
        entries["enum"] = _sequence(choices, enum)
    return entries


def _rule(entries: Entries, at: yaml.Node) -> Entries:
    short = entries.keys() & RULE_FORMS.keys()
    if len(short) != 1 or entries.keys() & {"type", "engine", "metric", "implementation", "mustBeBetween"}:
        return entries
    form = short.pop()
    words, key = RULE_FORMS[form]
    return {name: _text(value, at) for name, value in words.items()} | {key: entries.pop(form)} | entries


def _lift(
    entries: Entries, names: Collection[str], into: str, wrap: Callable[[Mapping[str, yaml.Node], yaml.Node], yaml.Node]
) -> None:
    """Move the entries of these names into one entry of the standard, unless that is written out."""
    short = {name: node for name, node in entries.items() if name in names}
    if short and into not in entries:
        for name in short:
            del entries[name]
        entries[into] = wrap(short, next(iter(short.values())))


def _replace_items(entries: Entries, name: str, expand_item: Callable[[Entries, yaml.Node], Entries]) -> None:
    items = entries.get(name)
    if isinstance(items, yaml.SequenceNode):
        expanded = [
            item if (inner := _entries(item)) is None else _mapping(expand_item(inner, item), item)
            for item in items.value
        ]
        entries[name] = _sequence(expanded, items)


def _entries(node: yaml.Node | None) -> Entries | None:
    """The entries of a mapping by their keys; None for anything else."""
    if not isinstance(node, yaml.MappingNode):
        return None
    if not all(isinstance(key, yaml.ScalarNode) for key, _ in node.value):
        return None
    return {key.value: value for key, value in node.value}


def _property_list(entries: Mapping[str, yaml.Node], at: yaml.Node) -> yaml.Node:
    items = [_mapping({"property": _text(name, node), "value": node}, node) for name, node in entries.items()]
    return _sequence(items, at)


def _mapping(entries: Mapping[str, yaml.Node], at: yaml.Node) -> yaml.MappingNode:
    pairs = [(_text(name, node), node) for name, node in entries.items()]
    return yaml.MappingNode("tag:yaml.org,2002:map", pairs, at.start_mark, at.end_mark)


def _sequence(items: list[Any], at: yaml.Node) -> yaml.SequenceNode:
    return yaml.SequenceNode("tag:yaml.org,2002:seq", items, at.start_mark, at.end_mark)


def _text(value: str, at: yaml.Node) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", value, at.start_mark, at.end_mark)


def _value(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _is(node: yaml.Node | None, value: str) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == value
