"""Charts: a question's rows as SVG, drawn by Vega-Lite without a browser or a network. See ADR 0043.

A chart of a question file has:

* `kind`: bar, line or interval; `title`.
* `category`: a column, or several whose values are set side by side; for a line a month.
* `value`: a column, or several that are drawn as series. `series`: a column that parts bars or lines instead.
* `low` and `high` of an interval, and `baseline`, the value that means no effect.
* `where`: the rows that are drawn, as column: value or list of values. `top`: how many of the greatest categories; the table
  has all.
* `stack: false` for amounts that do not add up.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from sampan.report.words import CHINESE, SIGNS, Row, Words, unit_of

WIDE, NARROW = 760, 340
COLOURS = ["#1f4e79", "#c05621", "#4c7a34", "#6b4c8a", "#8a6d1d", "#5f6b76", "#a23b5a", "#2b7a78"]
INK, GRID = "#1b2733", "#d5dbe1"
# Only fonts of the reader's computer: Chinese ones are last, so that Latin letters stay in the first.
FONT = "'Segoe UI', 'Helvetica Neue', Arial, 'PingFang HK', 'Microsoft JhengHei', 'Noto Sans CJK TC', sans-serif"
BETWEEN = " · "
# Letters of a line beside a narrow chart.
LETTERS = 20


def marks(chart: Mapping[str, Any], rows: Sequence[Row], words: Words) -> list[dict[str, Any]]:
    """The points of a chart, summed over what it does not show: category, series, value, low, high as numbers."""
    columns, drawn = several(chart["category"]), several(chart["value"])
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        if not _is_wanted(row, chart.get("where", {})):
            continue
        category = BETWEEN.join(text for column in columns if (text := words.mark(column, row[column], row)))
        for value in drawn:
            if row[value] is None:
                continue
            series = words.mark(chart["series"], row[chart["series"]], row) if "series" in chart else ""
            series = words.label(value) if len(drawn) > 1 else series
            factor = 100 if unit_of(value) == "share" else 1
            mark = found.setdefault((category, series), {"category": category, "series": series, "value": 0.0})
            mark["value"] += float(row[value]) * factor
            for bound in ("low", "high"):
                if bound in chart and row[chart[bound]] is not None:
                    mark[bound] = float(row[chart[bound]]) * factor
    made = list(found.values())
    if chart["kind"] == "bar":
        sums: dict[str, float] = {}
        for mark in made:
            sums[mark["category"]] = sums.get(mark["category"], 0) + abs(mark["value"])
        kept = list(sums)
        if "top" in chart:
            kept = sorted(sums, key=lambda name: -sums[name])[: chart["top"]]
        made = [mark for name in kept for mark in made if mark["category"] == name]
    return made


def several(columns: str | list[str]) -> list[str]:
    """One column or several, as a list."""
    return [columns] if isinstance(columns, str) else columns


def _is_wanted(row: Row, where: Mapping[str, Any]) -> bool:
    return all(
        row[name] in wanted if isinstance(wanted, list) else row[name] == wanted for name, wanted in where.items()
    )


def svg(chart: Mapping[str, Any], rows: Sequence[Row], words: Words, width: int = WIDE) -> str | None:
    """The chart as SVG; None when no row has a value to draw, or no bar a length."""
    import vl_convert

    points = marks(chart, rows, words)
    if not points or (chart["kind"] == "bar" and not any(point["value"] for point in points)):
        return None
    drawn: str = vl_convert.vegalite_to_svg(json.dumps(_spec(chart, points, words, width)), vl_version="6.4")
    return drawn


def _spec(chart: Mapping[str, Any], points: list[dict[str, Any]], words: Words, width: int) -> dict[str, Any]:
    measured = several(chart["value"])
    step, word = _scale(points, unit_of(measured[0]), words)
    series = list(dict.fromkeys(point["series"] for point in points))
    values = [
        {name: item / step if isinstance(item, float) else item for name, item in point.items()}
        | {"rank": series.index(point["series"])}
        | ({"category": _in_lines(point["category"])} if width == NARROW and chart["kind"] != "line" else {})
        for point in points
    ]
    title = words.label(measured[0]) if len(measured) == 1 else ""
    title += (f" ({word})" if words.language == "en" else f"（{word}）") if word else ""
    size = {"width": width, "autosize": {"type": "fit-x", "contains": "padding"}}
    layers = {"bar": _bars, "line": _lines, "interval": _intervals}[chart["kind"]]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        **size,
        "data": {"values": values},
        **layers(chart, values, title.strip(), width),
        "config": _config(width),
    }


def _scale(points: list[dict[str, Any]], unit: str, words: Words) -> tuple[float, str]:
    """By what values are divided, and the unit beside the axis."""
    sign = SIGNS.get(unit, {}).get(words.language, "")
    if unit not in ("hkd", "cny"):
        return 1, sign
    greatest = max(abs(point["value"]) for point in points)
    step, word = next(((step, word) for step, word in words.scales if greatest >= step), (1, ""))
    return step, f"{sign} {word}".strip() if words.language == "en" else f"{word}{sign}"


def _axis(title: str | None, width: int, **more: Any) -> dict[str, Any]:
    return {"title": title, "labelLimit": 340 if width == WIDE else 130, **more}


def _colour(values: list[dict[str, Any]], width: int) -> dict[str, Any]:
    series = list(dict.fromkeys(value["series"] for value in values))
    if series == [""]:
        return {"value": COLOURS[0]}
    legend = {"title": None, "orient": "top", "labelLimit": 300, "columns": 4 if width == WIDE else 2}
    return {"field": "series", "type": "nominal", "scale": {"domain": series, "range": COLOURS}, "legend": legend}


def _categories(values: list[dict[str, Any]], width: int) -> dict[str, Any]:
    order = list(dict.fromkeys(value["category"] for value in values))
    axis = _axis(None, width, grid=False, ticks=False)
    if width == NARROW:
        axis["labelExpr"] = r"split(datum.label, '\n')"
    return {"field": "category", "type": "nominal", "sort": order, "axis": axis}


def _in_lines(category: str) -> str:
    """A name in lines that fit beside a narrow chart, each part of it beginning a new one."""
    lines = []
    for part in category.split(BETWEEN):
        # A Chinese character is as wide as two letters.
        fits = LETTERS // 2 if re.search(CHINESE, part) else LETTERS
        lines += textwrap.wrap(part, fits, max_lines=2, placeholder="…")
    return "\n".join(lines)


def _step(values: list[dict[str, Any]], least: int) -> int:
    """Height of a category whose name may have several lines."""
    lines = 1 + max(int(value["category"].count("\n")) for value in values)
    return max(least, 15 * lines + 6)


def _bars(chart: Mapping[str, Any], values: list[dict[str, Any]], title: str, width: int) -> dict[str, Any]:
    y = _categories(values, width)
    x = {"field": "value", "type": "quantitative", "axis": _axis(title, width, tickCount=5)}
    if any(value["value"] < 0 for value in values):
        # Room for the figure of the longest bar between its end and the names.
        x["scale"] = {"padding": 56}
    order = list(dict.fromkeys(value["series"] for value in values))
    coded: dict[str, Any] = {"y": y, "x": x, "color": _colour(values, width)}
    bar = {"mark": "bar", "encoding": coded}
    if len(order) > 1 and stacks(chart):
        coded["order"] = {"field": "rank", "type": "quantitative"}
        return {"layer": [bar], "height": {"step": _step(values, 24)}}
    if len(order) > 1:
        # Of rates and means there is no sum: bars stand side by side.
        coded["yOffset"] = {"field": "series", "sort": order}
        return {"layer": [bar], "height": {"step": 14, "for": "offset"}}
    # At the end of the bar, on whichever side of zero that is.
    side = {"align": {"expr": "datum.value < 0 ? 'right' : 'left'"}, "dx": {"expr": "datum.value < 0 ? -4 : 4"}}
    text = {"mark": {"type": "text", **side}, "encoding": {"y": y, "x": x, "text": _format(values)}}
    return {"layer": [bar, text], "height": {"step": _step(values, 24)}}


def stacks(chart: Mapping[str, Any]) -> bool:
    """Whether the values of a chart add up."""
    unit = unit_of(several(chart["value"])[0])
    return bool(chart.get("stack", True)) and unit not in ("share", "pct", "ratio", "days", "number")


def _format(values: list[dict[str, Any]]) -> dict[str, Any]:
    greatest = max(abs(value["value"]) for value in values)
    whole = all(value["value"] == int(value["value"]) for value in values) or greatest >= 1000
    return {
        "field": "value",
        "type": "quantitative",
        "format": ",.0f" if whole else ",.2f" if greatest < 10 else ",.1f",
    }


def _lines(chart: Mapping[str, Any], values: list[dict[str, Any]], title: str, width: int) -> dict[str, Any]:
    axis = _axis(None, width, format="%Y-%m", labelAngle=0, tickCount=8 if width == WIDE else 3, grid=False)
    x = {"field": "category", "type": "temporal", "axis": axis}
    y = {"field": "value", "type": "quantitative", "axis": _axis(None, width, tickCount=5)}
    mark = {"type": "line", "point": {"size": 34}, "strokeWidth": 2}
    lines = {"mark": mark, "encoding": {"x": x, "y": y, "color": _colour(values, width)}}
    return {"title": {"text": title, "anchor": "start"}, "layer": [lines], "height": 260}


def _intervals(chart: Mapping[str, Any], values: list[dict[str, Any]], title: str, width: int) -> dict[str, Any]:
    y, colour = _categories(values, width), _colour(values, width)
    x = {"field": "value", "type": "quantitative", "scale": {"zero": False}, "axis": _axis(title, width, tickCount=5)}
    ends = {"x": x | {"field": "low"}, "x2": {"field": "high"}}
    layer: list[dict[str, Any]] = [
        {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {"y": y, **ends, "color": colour}},
        {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
         "encoding": {"y": y, "x": x, "color": colour}},
    ]  # fmt: skip
    if "baseline" in chart:
        rule = {"type": "rule", "strokeDash": [4, 3], "color": INK}
        layer.insert(0, {"mark": rule, "encoding": {"x": {"datum": chart["baseline"]}}})
    return {"layer": layer, "height": {"step": _step(values, 26)}}


def _config(width: int) -> dict[str, Any]:
    size = 13 if width == WIDE else 12
    text = {
        "labelFontSize": size,
        "titleFontSize": size,
        "labelColor": INK,
        "titleColor": INK,
        "titleFontWeight": "normal",
    }
    return {
        # The page says in words what the chart shows, and has the figures in a table.
        "aria": False,
        "font": FONT,
        "background": "white",
        "axis": text | {"gridColor": GRID, "domainColor": GRID, "tickColor": GRID},
        "legend": text,
        "title": {"fontSize": size, "fontWeight": "normal", "color": INK, "offset": 8},
        "text": {"fontSize": size, "fill": INK},
        "view": {"stroke": None},
        "bar": {"cornerRadiusEnd": 1},
    }
