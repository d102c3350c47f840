"""Linkage: how likely a name belongs to an enterprise, by Splink, and what follows from that.

The model is `linkage.json`, versioned with the code. The weight of equal names depends on how many enterprises have them: the
others on the register, and those that may be expected to have them by chance (`names.Name.chance`). A merge needs equal
names in one script, or brands of one alias group; anything else that is similar is proposed to a person.
"""

from __future__ import annotations

import hashlib
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
# Evidence, by the labels of the model's levels, that allows a link without a person's decision.
MERGING = ("same name by the registry's rules", "same brand and trade", "same brand", "brands of one alias group")
# Share of the enterprises with a brand by chance that also have the same alias group, trade or whole name.
CHANCE = {"brand": 1.0, "alias_group": 0.1, "full_name": 0.2, "same_name": 0.05}


@dataclass(frozen=True)
class NameRecord:
    """One name of an entity or of an enterprise (then `entity` is its number), and its operator's USCC if known."""

    entity: str
    name: Name
    operator: str = ""


@dataclass(frozen=True)
class Pair:
    """Comparison of an entity with an enterprise, by their most similar names. `weight` is in bits."""

    entity: str
    number: str
    weight: float
    probability: float
    evidence: str
    scripts: str
    trades: str
    operator: str


@dataclass(frozen=True)
class LinkDecision:
    """What follows for one entity: the enterprise it is linked to, or None and the pairs that a person should review."""

    number: str | None
    probability: float | None
    evidence: str | None
    proposals: tuple[Pair, ...]


@cache
def model() -> dict[str, Any]:
    """Thresholds and Splink settings."""
    return dict(json.loads(MODEL.read_text(encoding="utf-8")))


def version() -> str:
    """Changes when the model does; its explanations (`..._because`) do not count."""
    thresholds = {name: value for name, value in model()["thresholds"].items() if not name.endswith("_because")}
    return hashlib.sha256(json.dumps(model() | {"thresholds": thresholds}).encode()).hexdigest()[:16]


def blocks(keys: Sequence[str], frequency: dict[str, int]) -> list[str]:
    """The keys under which a name is looked up: its rarest ones, shared by at most `compared_at_most` enterprises."""
    chosen, reached = [], 0
    for shared, key in sorted((frequency[key], key) for key in keys if frequency.get(key)):
        reached += shared
        if reached > model()["thresholds"]["compared_at_most"]:
            break
        chosen.append(key)
    return chosen


def score(sources: Iterable[NameRecord], enterprises: Iterable[NameRecord], frequency: dict[str, int]) -> list[Pair]:
    """Every likely pair of an entity and an enterprise that share a key, compared by their most similar names.

    `enterprises` has all names that share a key with any of the sources; `frequency` counts enterprises by key.
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


def decide(pairs: Sequence[Pair], rejected: frozenset[str] = frozenset(), merges: bool = True) -> LinkDecision:
    """Decide from an entity's pairs. `rejected` are enterprises that a person ruled out; without `merges` every likely pair
    is proposed to a person."""
    limits = model()["thresholds"]
    ranked = sorted((p for p in pairs if p.number not in rejected), key=lambda pair: (-pair.weight, pair.number))
    if not ranked or ranked[0].probability < limits["review"]:
        return LinkDecision(None, None, None, ())
    top = ranked[0]
    margin = top.weight - ranked[1].weight if len(ranked) > 1 else math.inf
    if (
        merges
        and top.probability >= limits["merge"]
        and margin >= limits["margin_bits"]
        and top.evidence in MERGING
        and (top.scripts in ("en-en", "zh-zh") or top.evidence == "brands of one alias group")
    ):
        return LinkDecision(top.number, top.probability, top.evidence, ())
    return LinkDecision(None, None, None, tuple(ranked[: limits["proposals"]]))


def _row(side: str, position: int, record: NameRecord, keys: Sequence[str]) -> dict[str, Any]:
    name = record.name
    return {
        "unique_id": f"{side}{position}", "entity": record.entity, "script": name.script,
        **dict.fromkeys(CHANCE), **_values(name), "pinyin": name.pinyin, "trades": list(name.trades),
        "readings": list(name.readings), "misspellings": _misspellings(name), "operator": record.operator,
        "blocks": list(keys),
    }  # fmt: skip


def _expected(sources: Sequence[NameRecord], enterprises: Sequence[NameRecord]) -> dict[str, dict[str, float]]:
    """By column and value: the expected share of all other enterprises that have it.

    So a name that only one enterprise has gets the same weight in a register of any size.
    """
    holders: dict[tuple[str, str], set[str]] = defaultdict(set)
    chance: dict[tuple[str, str], float] = defaultdict(float)
    for record in (*sources, *enterprises):
        for pair in _values(record.name).items():
            chance[pair] = max(chance[pair], record.name.chance)
    for record in enterprises:
        for pair in _values(record.name).items():
            holders[pair].add(record.entity)
    found: dict[str, dict[str, float]] = {column: {} for column in CHANCE}
    for (column, value), by_chance in chance.items():
        others = max(len(holders[column, value]) - 1, 0)
        found[column][value] = (others + by_chance * CHANCE[column]) / model()["enterprises"]
    return found


def _misspellings(name: Name) -> list[str]:
    """The brand with each character left out or replaced: what two spellings that differ by one error have in common.

    Short brands have none: there a difference in one character usually means another firm.
    """
    if len(name.brand) < (6 if name.script == "en" else 4):
        return []
    wild = [name.brand[:at] + "_" + name.brand[at + 1 :] for at in range(len(name.brand))]
    less = [name.brand[:at] + name.brand[at + 1 :] for at in range(len(name.brand))]
    return sorted({name.brand, *wild, *less})


def _values(name: Name) -> dict[str, str]:
    """The values by which names may be equal, where the name has them."""
    found = {"brand": name.brand, "alias_group": name.alias, "full_name": name.full, "same_name": name.same_name}
    return {column: value for column, value in found.items() if value}


@cache
def _labels(comparison: str) -> dict[int, str]:
    """Labels of a comparison's levels by Splink's gamma value."""
    (levels,) = (
        entry["comparison_levels"]
        for entry in model()["settings"]["comparisons"]
        if entry["output_column_name"] == comparison
    )
    counted = [level for level in levels if not level.get("is_null_level")]
    return {len(counted) - 1 - at: level["label_for_charts"] for at, level in enumerate(counted)} | {-1: ""}


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
            # Which side has which script does not matter.
            entry["scripts"] = "-".join(sorted(entry["scripts"].split("-")))
            yield entry
