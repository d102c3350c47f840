"""Disclosure classes: what a mart may tell of one enterprise, and so which readers see it. See ADR 0033.

Each mart's meta names its class (`disclosure: row_level`). A mart that no model describes, as one of an earlier version, is
of the strictest class.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sampan.contracts.derive import mart_models
from sampan.warehouse.roles import POLICY_READER, PUBLIC_READER


@dataclass(frozen=True)
class Disclosure:
    """A class: its sentence in comments and in the dictionary, and the readers besides `bi_reader` that see it."""

    sentence: str
    readers: tuple[str, ...]


CLASSES = {
    "row_level": Disclosure("Disclosure: row level, tells of single enterprises; not for publication.", ()),
    "small_cells": Disclosure(
        "Disclosure: small cells, figures may rest on a few enterprises; not for publication.", (POLICY_READER,)
    ),
    "publishable": Disclosure(
        "Disclosure: publishable, tells of no single enterprise.", (POLICY_READER, PUBLIC_READER)
    ),
}
STRICTEST = "row_level"


@cache
def _class_names() -> dict[str, str]:
    return {model["name"]: model.get("config", {}).get("meta", {}).get("disclosure") for model in mart_models()}


def class_of(mart: str) -> Disclosure:
    """The class of a mart, by its name."""
    return CLASSES[_class_names().get(mart) or STRICTEST]


def readable_by(reader: str) -> list[str]:
    """Names of the marts that a reader of a class sees."""
    return [mart for mart in _class_names() if reader in class_of(mart).readers]
