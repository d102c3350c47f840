"""Rules of the marts: expectations/marts/<mart>.yaml, written as the `quality` of a contract is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sampan.contracts.model import SEVERITIES, Rule
from sampan.errors import Code, PermanentFailure, Problem
from sampan.settings import HOME, read_yaml

FOLDER = HOME / "expectations" / "marts"


@cache
def load(folder: Path = FOLDER) -> dict[str, tuple[Rule, ...]]:
    """Rules by mart. Raises PermanentFailure when a file is not complete or is not named after its mart."""
    rules = {}
    for path in sorted(folder.glob("*.yaml")):
        document = read_yaml(path)
        if document.get("mart") != path.stem:
            message = f"mart is {document.get('mart')!r}, but the file is named {path.stem!r}"
            raise PermanentFailure(Problem(Code.EXPECTATIONS_MART, message, str(path), 1))
        rules[path.stem] = tuple(_rule(item, path) for item in document["quality"])
    return rules


def _rule(item: Mapping[str, Any], path: Path) -> Rule:
    try:
        rule = Rule(
            name=item["name"],
            description=item["description"],
            severity=item["severity"],
            expectation=item["implementation"]["type"],
            kwargs=dict(item["implementation"]["kwargs"]),
        )
    except KeyError as error:
        message = f"{item.get('name')}: {error} is missing"
        raise PermanentFailure(Problem(Code.EXPECTATIONS_RULE, message, str(path))) from error
    if rule.severity not in SEVERITIES:
        message = f"{rule.name}: unknown severity {rule.severity!r}; severities: {', '.join(SEVERITIES)}"
        raise PermanentFailure(Problem(Code.EXPECTATIONS_RULE, message, str(path)))
    return rule
