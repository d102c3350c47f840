"""Deprecated columns of the marts. For one version a renamed column is there under both names: the model's meta says

    deprecated: {since: 0.2.0, columns: {old_name: new_name, other: [first_choice, second_choice]}}

and the views of `marts` show the old name, with the text of `Deprecation.comment` on it. Tables of a release have the new
names only. A list of names is for a column that was split: the first that is known, as text, where `none` is unknown.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from psycopg import sql

from sampan.contracts.derive import mart_models


@dataclass(frozen=True)
class Deprecation:
    """An old name of a mart's column, the columns that replace it, and the version that renamed it."""

    mart: str
    column: str
    instead: tuple[str, ...]
    since: str

    @property
    def comment(self) -> str:
        """What readers see on the column."""
        choices = ", or ".join(self.instead) + " where that is unknown" * (len(self.instead) > 1)
        return f"Deprecated since version {self.since}, removed in the one after it: use {choices}."

    @property
    def expression(self) -> sql.Composable:
        """The old column in terms of the new ones."""
        if len(self.instead) == 1:
            return sql.Identifier(self.instead[0])
        known = (sql.SQL("nullif({}, 'none')").format(sql.Identifier(name)) for name in self.instead)
        return sql.SQL("coalesce({})").format(sql.SQL(", ").join(known))


@cache
def deprecations() -> tuple[Deprecation, ...]:
    """Every deprecated column, in the order of the models and their meta."""
    found = []
    for model in mart_models():
        meta = model.get("config", {}).get("meta", {}).get("deprecated", {})
        for old, new in meta.get("columns", {}).items():
            found.append(Deprecation(model["name"], old, (new,) if isinstance(new, str) else tuple(new), meta["since"]))
    return tuple(found)


def missing_from(mart: str, columns: Collection[str]) -> list[Deprecation]:
    """The deprecated columns that a view on a table with these columns has to add.

    A table of an earlier version still has the old name and lacks the new one: nothing is added to it.
    """
    return [
        item
        for item in deprecations()
        if item.mart == mart and item.column not in columns and set(item.instead) <= set(columns)
    ]
