"""What the desks say, in English and traditional Chinese: labels.yml here, then the labels of the answer pages."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from sampan.contracts.model import Contract
from sampan.contracts.registry import all_contracts
from sampan.problems import MEANINGS
from sampan.report.words import LANGUAGES, TAGS, Words
from sampan.report.words import labels as labels_of_answers
from sampan.settings import read_yaml

FOLDERS = {"en": "en", "zh-Hant": "zh"}


@cache
def labels() -> dict[str, Any]:
    """`texts` of pages, `rules` in words, `values` by list and value: each with `en` and `zh`; `features` in Chinese."""
    found: dict[str, Any] = read_yaml(Path(__file__).with_name("labels.yml"))
    return found


class DeskWords:
    """The words of one language, named by the folder of its pages: en or zh-Hant."""

    def __init__(self, folder: str) -> None:
        self.folder, self.language = folder, FOLDERS[folder]
        self.tag = TAGS[self.language]
        self.other_folder = next(name for name in FOLDERS if name != folder)
        self.other_tag, self.other_name = TAGS[FOLDERS[self.other_folder]], LANGUAGES[FOLDERS[self.other_folder]]

    def text(self, key: str, **values: Any) -> str:
        """A text of the pages, with values filled in."""
        found = labels()["texts"].get(key) or labels_of_answers()["texts"][key]
        return str(found[self.language]).format(**values)

    def value(self, of: str, value: object) -> str:
        """The name of a value of a list; the value itself when it has none."""
        found = (labels()["values"].get(of) or labels_of_answers()["values"].get(of, {})).get(value)
        return str(found[self.language]) if found else str(value)

    def title(self, feed: str) -> str:
        """Title of a feed in this language: the contract's, in Chinese that of the answer pages where they have one."""
        named = labels_of_answers()["values"]["feed"].get(feed)
        if named and self.language != "en":
            return str(named[self.language])
        contract = all_contracts().get(feed)
        return contract.title if contract else feed

    def label(self, column: str) -> str:
        """The heading of a column of a mart, without its unit; its name when it has none."""
        return Words(self.language, {}).label(column)

    def feature(self, name: str, described: str) -> str:
        """What a credit feature means: as the mart describes it, in Chinese as labels.yml says."""
        return described if self.language == "en" else str(labels()["features"].get(name, described))

    def described(self, text: str) -> str:
        """What a contract says in English, in this language where labels.yml has it."""
        return text if self.language == "en" else str(labels()["descriptions"].get(text, text))

    def problem(self, rule: str, feed: str | None = None) -> str | None:
        """What a problem means by its code; None where its own message is all there is to say."""
        found = None if self.language == "en" else labels()["problems"].get(rule)
        contract = all_contracts().get(feed or "")
        return found and str(found).format(budget=f"{contract.budget:.1%}" if contract else "–")

    def outcome(self, action: str, state: str) -> str | None:
        """What became of a request; None where its own words are all there is to say."""
        of = {"done": action}.get(state, state)
        found = None if self.language == "en" else labels()["outcomes"].get(of)
        return found and str(found)

    def shown(self, value: object) -> str:
        """A value of the database for a page."""
        if value is None:
            return "–"
        if isinstance(value, bool):
            return self.text("yes_" if value else "no_")
        if isinstance(value, datetime):
            return f"{value:%Y-%m-%d %H:%M}"
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, int | Decimal):
            return f"{value:,}"
        if isinstance(value, list | tuple):
            return self.text("comma").join(map(self.shown, value))
        return str(value)

    def rule(self, contract: Contract, rule: str) -> str:
        """A broken rule as a sentence, with the heading of the column as the partner knows it."""
        known = labels()["rules"]
        if rule in known:
            return str(known[rule][self.language])
        described = next((item.description for item in contract.row_rules if item.name == rule), None)
        if described is not None:
            return self.described(described)
        if rule in MEANINGS:
            return MEANINGS[rule][0]  # type: ignore[index]
        name, _, check = rule.partition(".")
        column = next((column for column in contract.columns if column.name == name), None)
        if column is None or check not in known:
            return rule
        options = column.options
        values = {
            "column": column.source_name,
            "type": self.value("types", column.logical_type),
            "values": self.text("comma").join(column.enum),
            "pattern": options.get("pattern", ""),
            "least": _bound(options.get("minimum", options.get("exclusiveMinimum", options.get("minLength", "")))),
            "most": _bound(options.get("maximum", options.get("maxLength", ""))),
            "scale": column.scale,
        }
        return str(known[check][self.language]).format(**values)


def _bound(value: object) -> str:
    """A bound of a column; a long number in groups of three digits, which a year is not."""
    return f"{value:,}" if isinstance(value, int | float) and abs(value) >= 10_000 else str(value)
