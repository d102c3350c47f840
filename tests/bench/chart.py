"""A bar chart as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

WIDTH, LABELS, ROW, TOP, RIGHT = 760, 210, 34, 44, 60
INK, FAINT, MET, MISSED = "#1f2933", "#d5dbe1", "#2b6cb0", "#c05621"


def bars(title: str, values: Mapping[str, float], most: Mapping[str, float]) -> str:
    """Horizontal bars of values, each with a mark at what it may be at most; one beyond its mark has another colour."""
    scale = (WIDTH - LABELS - RIGHT) / max([*values.values(), *(most[name] for name in values)])
    height = TOP + ROW * len(values) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' font-family="sans-serif" font-size="13" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for row, (name, value) in enumerate(values.items()):
        y, mark = TOP + ROW * row, LABELS + most[name] * scale
        colour = MET if value <= most[name] else MISSED
        parts += [
            f'<text x="{LABELS - 8}" y="{y + 17}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LABELS}" y="{y + 2}" width="{WIDTH - LABELS - RIGHT}" height="22" fill="{FAINT}" opacity="0.3"/>',
            f'<rect x="{LABELS}" y="{y + 2}" width="{value * scale:.1f}" height="22" fill="{colour}"/>',
            f'<line x1="{mark:.1f}" x2="{mark:.1f}" y1="{y - 2}" y2="{y + 28}" stroke="{INK}" stroke-width="2"/>',
            f'<text x="{WIDTH - RIGHT + 8}" y="{y + 17}">{value:.2f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
