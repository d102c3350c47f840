"""Linkage: how likely a name is an enterprise's, by Splink, and what may be concluded from that.

The model is `linkage.json`, versioned with the code. Names that are equal weigh by how many enterprises bear them: the
others on the register, and those that may be expected to bear them by chance (`names.Name.chance`). A merge needs names
of one script that are equal, or brands of one alias group; whatever else looks alike is proposed to a person.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sampan.identity.names import Name

MODEL = Path(__file__).with_suffix(".json")
# Kinds of evidence, by the labels of the model's levels, that let a link be made without a person.
MERGING = ("same name by the registry's rules", "same brand and trade", "same brand", "brands of one alias group")
# Of the enterprises that bear a brand by chance, how many bear the same trade or the very same name with it.
CHANCE = {"brand": 1.0, "alias_group": 0.1, "full_name": 0.2, "same_name": 0.05}


@dataclass(frozen=True)
class Record:
    """One name of an entity: a source's (`number` None) or an enterprise's, and the operator's USCC where known."""

    entity: str
    name: Name
    operator: str = ""


@dataclass(frozen=True)
class Pair:
    """How an entity of a source compares with an enterprise, by their closest names. `weight` is in bits."""

    entity: str
    number: str
    weight: float
    probability: float
    evidence: str
    scripts: str
    trades: str
    operator: str


@dataclass(frozen=True)
class Outcome:
    """What follows for one entity: the enterprise it is linked to or none, and the pairs that a person should see."""

    number: str | None
    probability: float | None
    evidence: str | None
    proposals: tuple[Pair, ...]


@cache
def model() -> dict[str, Any]:
    """Thresholds and Splink settings."""
    return dict(json.loads(MODEL.read_text(encoding="utf-8")))


def blocks(keys: Sequence[str], frequency: dict[str, int]) -> list[str]:
    """The keys under which a name is looked up: its rarest, as long as few enterprises share them."""
    chosen, reached = [], 0
    for shared, key in sorted((frequency[key], key) for key in keys if frequency.get(key)):
        reached += shared
        if reached > model()["thresholds"]["compared_at_most"]:
            break
        chosen.append(key)
    return chosen


def score(sources: Iterable[Record], enterprises: Iterable[Record], frequency: dict[str, int]) -> list[Pair]:
    """Every pair worth a look, best name against best name, for sources that share a key with an enterprise.

    `enterprises` holds all names that share a key with any of the sources, and `frequency` how many names of
    enterprises have each key.
    """
    left, right = list(sources), list(enterprises)
    chosen = [blocks(record.name.keys, frequency) for record in left]
    if not right or not any(chosen):
        return []
    rows = (
        [_row("a", at, record, keys) for at, (record, keys) in enumerate(zip(left, chosen, strict=True)) if keys],
        [_row("b", at, record, record.name.keys) for at, record in enumerate(right)],
    )
    best: dict[tuple[str, str], Pair] = {}
    for found in _splink(*rows, _expected(left, right)):
        pair = Pair(**found)
        key = pair.entity, pair.number
        if key not in best or (pair.weight, pair.evidence) > (best[key].weight, best[key].evidence):
            best[key] = pair
    return sorted(best.values(), key=lambda pair: (pair.entity, -pair.weight, pair.number))


def decide(pairs: Sequence[Pair], rejected: frozenset[str] = frozenset(), merges: bool = True) -> Outcome:
    """What follows from an entity's pairs. `rejected` are enterprises that a person ruled out; without `merges` all
    that is likely goes to a person."""
    limits = model()["thresholds"]
    ranked = sorted((p for p in pairs if p.number not in rejected), key=lambda pair: (-pair.weight, pair.number))
    if not ranked or ranked[0].probability < limits["review"]:
        return Outcome(None, None, None, ())
    top = ranked[0]
    margin = top.weight - ranked[1].weight if len(ranked) > 1 else math.inf
    if (
        merges
        and top.probability >= limits["merge"]
        and margin >= limits["margin_bits"]
        and top.evidence in MERGING
        and (top.scripts in ("en-en", "zh-zh") or top.evidence == "brands of one alias group")
    ):
        return Outcome(top.number, top.probability, top.evidence, ())
    return Outcome(None, None, None, tuple(ranked[: limits["proposals"]]))


def _row(side: str, position: int, record: Record, keys: Sequence[str]) -> dict[str, Any]:
    name = record.name
    return {
        "unique_id": f"{side}{position}", "entity": record.entity, "script": name.script,
        **dict.fromkeys(CHANCE), **_values(name), "pinyin": name.pinyin, "trades": list(name.trades),
        "readings": list(name.readings), "misspellings": _misspellings(name), "operator": record.operator,
        "blocks": list(keys),
    }  # fmt: skip


def _expected(sources: Sequence[Record], enterprises: Sequence[Record]) -> dict[str, dict[str, float]]:
    """By column and value: which share of all enterprises, other than the one in question, may be expected to bear it.

    A name that one enterprise alone bears so weighs as much as its kind allows, whatever the size of the register.
    """
    bearers: dict[tuple[str, str], set[str]] = defaultdict(set)
    chance: dict[tuple[str, str], float] = defaultdict(float)
    for record in (*sources, *enterprises):
        for value in _values(record.name).items():
            chance[value] = max(chance[value], record.name.chance)
    for record in enterprises:
        for value in _values(record.name).items():
            bearers[value].add(record.entity)
    found: dict[str, dict[str, float]] = {column: {} for column in CHANCE}
    for (column, value), by_chance in chance.items():
        others = max(len(bearers[column, value]) - 1, 0)
        found[column][value] = (others + by_chance * CHANCE[column]) / model()["enterprises"]
    return found


def _misspellings(name: Name) -> list[str]:
    """The brand with each of its characters left out or unknown: what two spellings that are one error apart share.

    Short brands have none: there two firms that differ in one character are the rule and errors the exception.
    """
    if len(name.brand) < (6 if name.script == "en" else 4):
        return []
    wild = [name.brand[:at] + "_" + name.brand[at + 1 :] for at in range(len(name.brand))]
    less = [name.brand[:at] + name.brand[at + 1 :] for at in range(len(name.brand))]
    return sorted({name.brand, *wild, *less})


def _values(name: Name) -> dict[str, str]:
    """What two names may have in common, where they have it."""
    found = {"brand": name.brand, "alias_group": name.alias, "full_name": name.full, "same_name": name.same_name}
    return {column: value for column, value in found.items() if value}


@cache
def _labels(comparison: str) -> dict[int, str]:
    """The level's label by the value that Splink gives to it."""
    (levels,) = (
        entry["comparison_levels"]
        for entry in model()["settings"]["comparisons"]
        if entry["output_column_name"] == comparison
    )
    told = [level for level in levels if not level.get("is_null_level")]
    return {len(told) - 1 - at: level["label_for_charts"] for at, level in enumerate(told)} | {-1: ""}


def _splink(
    sources: list[dict[str, Any]], enterprises: list[dict[str, Any]], expected: dict[str, dict[str, float]]
) -> Iterable[dict[str, Any]]:
    import duckdb
    import pyarrow as pa
    from splink import DuckDBAPI, Linker

    limits, strings = model()["thresholds"], pa.list_(pa.string())
    lists = dict.fromkeys(("trades", "readings", "misspellings", "blocks"), strings)
    schema = pa.schema([(name, lists.get(name, pa.string())) for name in enterprises[0]])
    with duckdb.connect() as connection:
        connection.execute("set threads to 2")
        api = DuckDBAPI(connection=connection)
        left = api.register(pa.Table.from_pylist(sources, schema=schema), dataset_display_name="a")
        right = api.register(pa.Table.from_pylist(enterprises, schema=schema), dataset_display_name="b")
        linker = Linker(right, model()["settings"], log_level=None, validate_settings=False)
        for column, shares in expected.items():
            table = pa.table({column: list(shares), f"tf_{column}": pa.array(shares.values(), pa.float64())})
            linker.table_management.register_term_frequency_lookup(api.register(table), column)
        found = linker.inference.predict_between(
            left, right, threshold_match_probability=limits["review"] / 10, warning_mode="never"
        )
        wanted = (
            "entity_l, entity_r, match_weight, match_probability, gamma_name, script_l || '-' || script_r,"
            " gamma_trades, gamma_operator"
        )
        columns = ("entity", "number", "weight", "probability", "evidence", "scripts", "trades", "operator")
        for values in connection.execute(f"select {wanted} from {found.physical_name}").fetchall():
            entry = dict(zip(columns, values, strict=True))
            entry["evidence"] = _labels("name")[entry["evidence"]]
            entry["trades"], entry["operator"] = (
                _labels("trades")[entry["trades"]],
                _labels("operator")[entry["operator"]],
            )
            # A script pair has no order.
            entry["scripts"] = "-".join(sorted(entry["scripts"].split("-")))
            yield entry
