"""Pictures of the documents that follow from the models and contracts: keys and joins of the marts, family by family, and the
way from feeds to marts to answers. SVG, each a text that is the same as long as what it shows is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

from sampan.contracts.derive import PROJECT, mart_models, staging_model
from sampan.contracts.registry import all_contracts
from sampan.report.questions import all_questions

WIDTH = 960
ROW, HEAD, GAP, PAD = 20, 30, 18, 8
# Where the boxes of marts and those of tables of names stand.
LEFT, LEFT_WIDTH, RIGHT, RIGHT_WIDTH = 10, 430, 700, 250
# Where families of marts and the numbers of questions stand in the picture from feeds to answers.
RIGHT_OF_FLOW, ANSWERS = 540, 770
# Each can be told from its neighbours, by people who see few colours too, and is dark enough on white.
COLOURS = ("#1f5f8b", "#b4561c", "#2f7d43", "#7a3b8f", "#8a6d00", "#a3222a", "#14746f", "#5b4a3a", "#c0397b", "#44546a")
REF, CALL, NAME = re.compile(r"\bref\('(\w+)'\)"), re.compile(r"\b(\w+)\("), re.compile(r"'(\w+)'")
MACRO = re.compile(r"\{%-? macro (\w+)\(.*?%\}(.*?)\{%-? *endmacro", re.DOTALL)
FIGURES = re.compile(r"\brelease_columns\(\s*\[(.*?)\]", re.DOTALL)
# What names and numbers are linked by, outside of dbt.
NAMING = "stg_ops__identity_names"
STYLE = (
    "text{fill:#1c2b36}.name{font-weight:700}.small{font-size:12px;fill:#48606f}.head{font-size:15px;font-weight:700}"
    ".box{fill:#f4f7fa;stroke:#33546d;stroke-width:1.5}.join{fill:none;stroke-width:1.8}"
    ".flow{fill:none;stroke-width:2;opacity:.6}.other{stroke-width:1.3;stroke-dasharray:4 4}"
)
TITLES = {"cdi": "CDI", "sme": "SMEs"}


@dataclass(frozen=True)
class Line:
    """A line of a box: a column or a table, whether it is of the key, and the table that it joins."""

    text: str
    is_key: bool = False
    joins: str | None = None


@dataclass(frozen=True)
class Box:
    """A table or a family of tables: name, a word about it, and its lines."""

    name: str
    note: str
    lines: tuple[Line, ...]

    @property
    def height(self) -> int:
        """Pixels from its top to its bottom."""
        return HEAD + ROW * len(self.lines) + (PAD if self.lines else 0)


def family_title(family: str) -> str:
    """A family of marts as a heading."""
    return TITLES.get(family, family.replace("_", " ").capitalize())


def pictures() -> dict[str, str]:
    """Every picture by its file below docs/."""
    families = by_family()
    found = {f"entities/{family}.svg": of_family(family, models) for family, models in families.items()}
    return found | {"entities/overview.svg": overview(families), "lineage.svg": lineage(families)}


def by_family() -> dict[str, list[dict[str, Any]]]:
    """The models that readers see, by family."""
    found = defaultdict(list)
    for model in mart_models():
        found[model["family"]].append(model)
    return dict(found)


def joins_of(model: dict[str, Any]) -> dict[str, str]:
    """The tables that a mart's columns join, by column: dbt tests that each value is there."""
    found = {}
    for column in model["columns"]:
        for test in column.get("data_tests") or ():
            if isinstance(test, dict) and "relationships" in test:
                (found[column["name"]],) = REF.findall(test["relationships"]["arguments"]["to"])
    return found


# --- keys and joins ---------------------------------------------------------------------------------------------------


def of_family(family: str, models: Sequence[dict[str, Any]]) -> str:
    """The marts of a family: their keys, and the tables that they join."""
    return diagram([_table(model) for model in models], f"Keys and joins of the marts: {family_title(family)}")


def overview(families: dict[str, list[dict[str, Any]]]) -> str:
    """Which family of marts joins which table."""
    boxes = []
    for family, models in families.items():
        joined = sorted({table for model in models for table in joins_of(model).values()}, key=_rank)
        if joined:
            lines = tuple(Line(table, joins=table) for table in joined)
            count = len(models)
            boxes.append(Box(family_title(family), f"{count} {'mart' if count == 1 else 'marts'}", lines))
    return diagram(boxes, "Which family of marts joins which table")


def _table(model: dict[str, Any]) -> Box:
    """A mart: the columns of its key, then the others that join."""
    meta, joins = model.get("config", {}).get("meta", {}), joins_of(model)
    key = meta.get("primary_key") or []
    others = [column for column in joins if column not in key]
    lines = [Line(column, True, joins.get(column)) for column in key]
    lines += [Line(column, joins=joins[column]) for column in others]
    return Box(model["name"], str(meta.get("disclosure", "")).replace("_", " "), tuple(lines))


def _rank(table: str) -> tuple[bool, str]:
    return table != "dim_sme", table


@cache
def _keys() -> dict[str, list[str]]:
    """The key of each table that readers see."""
    return {m["name"]: m.get("config", {}).get("meta", {}).get("primary_key") or [] for m in mart_models()}


def diagram(boxes: Sequence[Box], title: str) -> str:
    """Boxes that join stand one below the other on the left, what they join on the right; the others in a grid below."""
    joining = [box for box in boxes if any(line.joins for line in box.lines)]
    alone = [box for box in boxes if box not in joining]
    tables = sorted({line.joins for box in joining for line in box.lines if line.joins}, key=_rank)
    colour = {table: COLOURS[at % len(COLOURS)] for at, table in enumerate(tables)}
    parts, y, ends = [], GAP, defaultdict[str, list[int]](list)
    for box in joining:
        parts.append(_box(box, LEFT, y, LEFT_WIDTH, colour))
        for at, line in enumerate(box.lines):
            if line.joins:
                ends[line.joins].append(y + HEAD + ROW * at + ROW // 2)
        y += box.height + GAP
    targets = {table: Box(table, "", tuple(Line(column, True) for column in _keys()[table])) for table in tables}
    places, bottom = _beside(targets, {table: sum(found) / len(found) for table, found in ends.items()}, y)
    joins = []
    for table, top in places.items():
        into = top + HEAD // 2
        shifts = ((at - len(ends[table]) / 2) * 3 for at in range(len(ends[table])))
        joins += [_join(start, into, colour[table], shift) for start, shift in zip(ends[table], shifts, strict=True)]
        parts.append(_box(targets[table], RIGHT, top, RIGHT_WIDTH, colour, colour[table]))
    y, width = max(y, bottom), (WIDTH - 3 * LEFT) // 2
    for pair in zip(alone[::2], [*alone[1::2], None], strict=False):
        for x, one in zip((LEFT, 2 * LEFT + width), pair, strict=True):
            if one is not None:
                parts.append(_box(one, x, y, width, colour))
        y += max(one.height for one in pair if one is not None) + GAP
    return _svg(y, title, [*joins, *parts])


def _beside(boxes: dict[str, Box], wanted: dict[str, float], height: int) -> tuple[dict[str, int], int]:
    """Tops of boxes that stand near the middle of what joins them and do not overlap, in that order; and the bottom."""
    order = sorted(boxes, key=lambda name: (wanted[name], name))
    total = sum(box.height + GAP for box in boxes.values())
    places, free, left = {}, GAP, total
    for name in order:
        # Room is kept for those below.
        latest = max(free, height - left)
        places[name] = min(max(free, int(wanted[name]) - boxes[name].height // 2), latest)
        free, left = places[name] + boxes[name].height + GAP, left - boxes[name].height - GAP
    return places, free


def _box(box: Box, x: int, y: int, width: int, colour: dict[str, str], edge: str | None = None) -> str:
    style = f' style="stroke:{edge};stroke-width:2.5"' if edge else ""
    parts = [
        f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{box.height}" rx="6"{style}/>',
        f'<text class="name" x="{x + 10}" y="{y + 20}">{escape(box.name)}</text>',
    ]
    if box.note:
        parts.append(
            f'<text class="small" x="{x + width - 10}" y="{y + 20}" text-anchor="end">{escape(box.note)}</text>'
        )
    for at, line in enumerate(box.lines):
        base = y + HEAD + ROW * at + 14
        if line.is_key:
            parts.append(f'<text class="small" x="{x + 10}" y="{base}">key</text>')
        parts.append(f'<text x="{x + 44}" y="{base}">{escape(line.text)}</text>')
        if line.joins and line.joins not in (line.text, box.name):
            place = f'x="{x + width - 22}" y="{base}" text-anchor="end" style="fill:{colour[line.joins]}"'
            parts.append(f'<text class="small" {place}>{line.joins}</text>')
    return "".join(parts)


def _join(start: int, end: int, colour: str, shift: float) -> str:
    """A line from many rows (three toes) to one (a bar). Those to one table keep apart by `shift`."""
    x, to = LEFT + LEFT_WIDTH, RIGHT
    middle = (x + to) / 2 + shift
    toes = f"M{x},{start - 5} L{x + 10},{start} L{x},{start + 5} M{x},{start} L{x + 14},{start}"
    bar = f"L{to},{end} M{to - 8},{end - 5} L{to - 8},{end + 5}"
    curve = f"C{middle:g},{start} {middle:g},{end} {to - 14},{end}"
    return f'<path class="join" stroke="{colour}" d="{toes} {curve} {bar}"/>'


# --- from feeds to answers --------------------------------------------------------------------------------------------


def lineage(families: dict[str, list[dict[str, Any]]]) -> str:
    """From feeds, partner by partner, to families of marts to the questions that they answer."""
    made = made_from()
    partners = defaultdict(list)
    for feed, contract in all_contracts().items():
        partners[contract.partner].append(feed)
    colour = {partner: COLOURS[at % len(COLOURS)] for at, partner in enumerate(partners)}
    answers = _answers(families)
    shown = [
        family
        for family, models in families.items()
        if answers[family] or any(made[model["name"]].figures for model in models)
    ]
    parts = [
        f'<text class="head" x="{x}" y="24">{text}</text>'
        for x, text in (
            (LEFT, "Feeds, by partner"),
            (RIGHT_OF_FLOW, "Families of marts"),
            (ANSWERS, "Answer questions"),
        )
    ]
    y, at = 44, {}
    for partner, feeds in partners.items():
        owners = {all_contracts()[feed].owner for feed in feeds}
        title = owners.pop() if len(owners) == 1 else partner.capitalize()
        parts.append(
            f'<text class="small" x="{LEFT}" y="{y + 12}" style="fill:{colour[partner]}">{escape(title)}</text>'
        )
        y += 18
        for feed in feeds:
            parts.append(
                f'<rect class="box" x="{LEFT}" y="{y}" width="230" height="22" rx="4" style="stroke:{colour[partner]}"/>'
                f'<text x="{LEFT + 8}" y="{y + 16}">{escape(feed)}</text>'
            )
            at[feed] = y + 11
            y += 26
        y += 8
    flows, fed = [], {family: _fed(models, made, at) for family, models in families.items() if family in shown}
    heights = {family: max(40, 5 * len(feeds) + 8) for family, feeds in fed.items()}
    y = max(y, 44 + sum(heights.values()) + 8 * len(fed))
    space, top = (y - 44 - sum(heights.values())) / len(fed), 44.0
    for family, drawn in fed.items():
        middle = round(top + (space + heights[family]) / 2)
        top += space + heights[family]
        for number, (feed, is_figure) in enumerate(drawn.items()):
            end = middle + 5 * (number - (len(drawn) - 1) / 2)
            kind, shade = "flow" if is_figure else "flow other", colour[all_contracts()[feed].partner]
            curve = f"M{LEFT + 230},{at[feed]} C400,{at[feed]} 420,{end:g} {RIGHT_OF_FLOW},{end:g}"
            flows.append(f'<path class="{kind}" stroke="{shade}" d="{curve}"/>')
        parts += _family(family, len(families[family]), middle, heights[family], answers[family])
    notes = (
        "A line: figures of the family are made of the feed. A broken line: they are compared with it, or read it beside.",
        "Who an enterprise is reaches every family through Identity and is not drawn. Column by column: sampan lineage show.",
    )
    parts += [f'<text class="small" x="{LEFT}" y="{y + 16 * row}">{note}</text>' for row, note in enumerate(notes, 1)]
    return _svg(y + 44, "From feeds to families of marts to the questions that they answer", [*flows, *parts])


def _fed(models: Iterable[dict[str, Any]], made: dict[str, Made], at: dict[str, int]) -> dict[str, bool]:
    """The feeds of a family from top to bottom, and whether its figures are made of each."""
    figures = frozenset[str]().union(*(made[model["name"]].figures for model in models))
    every = figures.union(*(made[model["name"]].others for model in models))
    return {feed: feed in figures for feed in sorted(every, key=at.__getitem__)}


def _family(family: str, count: int, middle: int, height: int, answers: list[int]) -> Iterator[str]:
    """The box of a family and the numbers of the questions that it answers."""
    x, marts = RIGHT_OF_FLOW + 12, "mart" if count == 1 else "marts"
    yield f'<rect class="box" x="{RIGHT_OF_FLOW}" y="{middle - height // 2}" width="190" height="{height}" rx="6"/>'
    yield f'<text class="name" x="{x}" y="{middle - 2}">{family_title(family)}</text>'
    yield f'<text class="small" x="{x}" y="{middle + 14}">{count} {marts}</text>'
    lines = [", ".join(map(str, answers[first : first + 6])) for first in range(0, len(answers), 6)]
    if lines:
        line = f"M{RIGHT_OF_FLOW + 190},{middle} L{ANSWERS - 8},{middle}"
        yield f'<path class="flow" stroke="#33546d" d="{line}"/>'
    for row, text in enumerate(lines):
        yield f'<text x="{ANSWERS}" y="{middle + 5 + 17 * (row - (len(lines) - 1) / 2):g}">{text}</text>'


def _answers(families: dict[str, list[dict[str, Any]]]) -> dict[str, list[int]]:
    """Numbers of the questions by the family that answers them."""
    family_of = {model["name"]: family for family, models in families.items() for model in models}
    found = defaultdict(list)
    for question in all_questions():
        found[family_of[question.mart]].append(question.number)
    return found


@dataclass(frozen=True)
class Made:
    """The feeds that a mart is made of: those of its figures, as dim_mart_coverage says, and the others that it reads."""

    figures: frozenset[str]
    others: frozenset[str]


def made_from() -> dict[str, Made]:
    """What each mart is made of. Its figures are of the feeds that it, or else the nearest models below it, name in
    `release_columns`; a table without figures of what it reads. Who is who is told by the tables of identity alone.
    """
    models = {path.stem: path for path in sorted((PROJECT / "models").rglob("*.sql"))}
    macros = {
        name: body
        for path in sorted((PROJECT / "macros").rglob("*.sql"))
        for name, body in MACRO.findall(path.read_text(encoding="utf-8"))
    }
    staged = {staging_model(contract): feed for feed, contract in all_contracts().items()}

    def whole(text: str, seen: frozenset[str] = frozenset()) -> str:
        """A text with those of the macros that it calls."""
        called = (set(CALL.findall(text)) & macros.keys()) - seen
        return "\n".join([text, *(whole(macros[name], seen | called) for name in sorted(called))])

    texts = {name: whole(path.read_text(encoding="utf-8")) for name, path in models.items()}
    below = {name: frozenset(REF.findall(text)) & models.keys() for name, text in texts.items()}

    @cache
    def figures(model: str) -> frozenset[str]:
        named = {feed for feeds in FIGURES.findall(texts[model]) for feed in NAME.findall(feeds)}
        return frozenset(named) or frozenset[str]().union(*map(figures, below[model]))

    @cache
    def reads(model: str) -> frozenset[str]:
        if model in staged:
            return frozenset({staged[model]})
        further = (name for name in below[model] if not _is_shared(name) and models[name].parent.name != "identity")
        return frozenset[str]().union(*map(reads, further))

    def made(model: str) -> Made:
        if models[model].parent.name == "identity":
            # What it reads is who is who.
            read = _all_below(model, below) | _all_below(NAMING, below)
            found = frozenset(staged[name] for name in read if name in staged)
            return Made(found, frozenset())
        known = figures(model) or reads(model)
        return Made(known, reads(model) - known)

    return {model["name"]: made(model["name"]) for model in mart_models()}


def _is_shared(model: str) -> bool:
    """Whether it tells of names, of days or of the platform itself, and of no partner's figures."""
    return model.startswith(("dim_", "stg_ops__", "int_calendar__")) or model == "int_feeds__completeness"


def _all_below(model: str, below: dict[str, frozenset[str]]) -> set[str]:
    found, waiting = set[str](), [model]
    while waiting:
        new = below[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def _svg(height: int, title: str, parts: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif"'
        f' font-size="13" role="img" aria-label="{escape(title)}">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
