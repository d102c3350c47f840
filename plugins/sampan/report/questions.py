"""The questions: one YAML file each, from which pages, docs/questions.md, dbt's exposures and tests of queries are made.

A file `NN_words.yml` has:

* `title`, `know` (what to know before quoting), `answer` (a sentence): texts in `en` and `zh`. The sentence is a Jinja
  template; `words.Words.sentence` says what it may use.
* `mart`, and `query` as an analyst pastes it. `facts` is a query of one row for the sentence.
* `page` instead of `query` for the page, where the query's rows are of single enterprises, with `page_note` saying so.
* `chart`: see `charts.py`; or `no_chart`, the reason why there is none.
* `quotable`: column and value of the rows that may be quoted, where the query gives others too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from sampan.settings import read_yaml

FOLDER = Path(__file__).with_name("questions")
RELATION = re.compile(r"\bmarts\.(\w+)")
# Dimensions of codes have names and no figures.
NAMES_ONLY = re.compile(r"dim_(?!sme$|festival_participant$)\w+")

Text = Mapping[str, str]


@dataclass(frozen=True)
class Question:
    """One question. Texts have `en` and `zh`."""

    number: int
    slug: str
    title: Text
    mart: str
    query: str
    know: Text
    answer: Text
    facts: str | None = None
    page: str | None = None
    page_note: Text | None = None
    chart: Mapping[str, Any] | None = None
    no_chart: Text | None = None
    quotable: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """What its files are called, without an ending."""
        return f"{self.number:02}-{self.slug.replace('_', '-')}"

    @property
    def shown(self) -> str:
        """The query whose rows the page shows: never rows of single enterprises."""
        return self.page or self.query

    @property
    def marts(self) -> tuple[str, ...]:
        """The marts that the page is made of, the one with the answer first."""
        found = RELATION.findall(self.shown) + RELATION.findall(self.facts or "")
        return tuple(dict.fromkeys([self.mart, *(mart for mart in found if not NAMES_ONLY.fullmatch(mart))]))


@cache
def all_questions() -> tuple[Question, ...]:
    """Every question, in the order of their numbers. Raises ValueError with the file's name when one is not sound."""
    return tuple(_read(path) for path in sorted(FOLDER.glob("*.yml")))


def _read(path: Path) -> Question:
    number, _, slug = path.stem.partition("_")
    content = read_yaml(path)
    unknown = content.keys() - {field.name for field in fields(Question)}
    if unknown:
        raise ValueError(f"{path}: unknown keys {', '.join(sorted(unknown))}")
    try:
        return Question(int(number), slug, **content)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
