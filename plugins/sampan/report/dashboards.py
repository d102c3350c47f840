"""The dashboards: which questions and marts each shows, and who may read it. See dashboards.yml and ADR 0044."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sampan.contracts.derive import mart_models
from sampan.marts import disclosure
from sampan.report.questions import Question, Text, all_questions
from sampan.settings import read_yaml
from sampan.warehouse.roles import POLICY_READER

FILE = Path(__file__).with_name("dashboards.yml")
OVERVIEW = "overview"
# Roles of people in a BI tool. What each reads is decided by the role of the person's login on the warehouse.
POLICY, ANALYST, BANK = "policy", "analyst", "bank"
FIRMS = {"en": "{}: from rows of enterprises", "zh": "{}：按企業資料"}


@dataclass(frozen=True)
class Number:
    """A sum that stands large at the top: of a column of a question's rows. In Chinese, money is in `chinese_unit`."""

    question: int
    column: str
    title: Text
    chinese_unit: str = "萬"


@dataclass(frozen=True)
class Dashboard:
    """One dashboard. `marts` are shown row by row."""

    key: str
    title: Text
    about: Text
    questions: tuple[Question, ...] = ()
    numbers: tuple[Number, ...] = ()
    marts: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """The marts that it is made of."""
        return tuple(dict.fromkeys([*self.marts, *(mart for question in self.questions for mart in question.marts)]))


@cache
def readers(marts: tuple[str, ...]) -> tuple[str, ...]:
    """The roles that may read all of these marts."""
    if set(marts) & _under_consent():
        return (BANK,)
    may = all(POLICY_READER in disclosure.class_of(mart).readers for mart in marts)
    return (POLICY, ANALYST) if may else (ANALYST,)


@cache
def all_dashboards() -> tuple[Dashboard, ...]:
    """Every dashboard: of a subject one for all readers, and one for analysts if questions rest on rows of enterprises.

    Raises ValueError when a question is on no dashboard of a subject, or on two.
    """
    written: dict[str, Mapping[str, Any]] = read_yaml(FILE)
    known = {question.number: question for question in all_questions()}
    shown = sorted(number for key, entry in written.items() if key != OVERVIEW for number in entry.get("questions", ()))
    if shown != sorted(known):
        raise ValueError(f"{FILE}: each question is on one dashboard of a subject; found {shown}")
    found: list[Dashboard] = []
    for key, entry in written.items():
        questions = [known[number] for number in entry.get("questions", ())]
        numbers = tuple(Number(**number) for number in entry.get("numbers", ()))
        title, about = entry["title"], entry["about"]
        for_all = tuple(question for question in questions if POLICY in readers(question.marts))
        for_analysts = tuple(question for question in questions if POLICY not in readers(question.marts))
        if for_all or entry.get("marts"):
            found.append(Dashboard(key, title, about, for_all, numbers, tuple(entry.get("marts", ()))))
        if for_analysts:
            firms = {language: FIRMS[language].format(text) for language, text in title.items()}
            found.append(Dashboard(f"{key}_firms", firms, about, for_analysts))
    return tuple(found)


@cache
def _under_consent() -> frozenset[str]:
    """Marts that only banks read, row by row, while a consent is live."""
    return frozenset(
        model["name"] for model in mart_models() if model.get("config", {}).get("meta", {}).get("read_under_consent")
    )
