"""The answers of a release: rows of every question, what they cover, and what changed since the release before.

Figures are read as `policy_reader` where that role may read all marts of a question, else as `bi_reader`, in one read-only
transaction on the tables of the release. What was taken in is read from the ledger.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from sampan.database import Connection, connect, hide_values
from sampan.marts import disclosure, release
from sampan.report.questions import Question, all_questions
from sampan.settings import ROLES, settings
from sampan.warehouse.roles import POLICY_READER

# No page waits longer for its rows.
TIMEOUT = "2min"
REFERENCE = re.compile(r"\bref\(\s*'(\w+)'")
NAMES_OF = ("market", "hs_chapter", "industry", "size_class", "platform", "customs_regime", "district")
CODE_OF = {"market": "market_iso2_code", "industry": "industry_section", "size_class": "sme_class"}


class State(StrEnum):
    """Whether an answer may be quoted."""

    QUOTABLE = "quotable"
    BEHIND = "behind"
    NOTHING = "nothing"
    CARRIED = "carried"
    FAILED = "failed"


@dataclass(frozen=True)
class Coverage:
    """What an answer rests on. `behind` and `feeds` have (feed, title, last complete date) of its figures."""

    complete_to: date | None
    newest: date | None
    behind: tuple[tuple[str, str, date | None], ...]
    feeds: tuple[tuple[str, str, date | None], ...]
    carried_from: int | None


@dataclass(frozen=True)
class Taken:
    """What the ledger says a release took in of one feed since an earlier one, in batches."""

    feed: str
    new: int
    corrections: int
    withdrawn: int


@dataclass(frozen=True)
class Answer:
    """The rows of a question in a release; `problem` says why there are none when its query failed."""

    question: Question
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    facts: dict[str, Any]
    coverage: Coverage
    taken: tuple[Taken, ...] = ()
    problem: str | None = None

    @property
    def state(self) -> State:
        """Whether it may be quoted."""
        if self.problem is not None:
            return State.FAILED
        if self.coverage.carried_from is not None:
            return State.CARRIED
        if not self.quotable:
            return State.NOTHING
        return State.BEHIND if self.coverage.behind else State.QUOTABLE

    @property
    def quotable(self) -> list[dict[str, Any]]:
        """The rows that may be quoted: those that the question file says, or all."""
        wanted = self.question.quotable or {}
        return [row for row in self.rows if all(row[column] == value for column, value in wanted.items())]

    @property
    def disclosure(self) -> str:
        """The class of what the page shows: publishable where all its marts are, else small cells."""
        classes = {disclosure.class_of(mart).sentence for mart in self.question.marts}
        return "publishable" if classes == {disclosure.CLASSES["publishable"].sentence} else "small_cells"

    @property
    def definition(self) -> str:
        """A hash that changes when the query, or a model, macro or seed behind its marts, changes."""
        parts = [self.question.shown, self.question.facts or "", *map(_definition_of, self.question.marts)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Answers:
    """All answers of a release, and the names of codes: by list, by code, English and Chinese."""

    release_no: int
    as_of_date: date
    released_at: datetime
    previous_no: int | None
    names: dict[str, dict[str, tuple[str, str]]] = field(repr=False)
    answers: tuple[Answer, ...] = field(repr=False)


def live() -> int | None:
    """The number of the live release; None before the first."""
    with connect("builder") as connection:
        return release.live_release(connection)


def read(release_no: int) -> Answers:
    """The answers of a release. Raises PermanentFailure when it is not kept."""
    shown = release.show_kept(release_no)
    previous, taken = _taken(release_no)
    with reading() as connection:
        names = _names(connection, release_no)
        coverage = _coverages(connection, release_no)
        answers = tuple(_answer(connection, release_no, question, coverage, taken) for question in all_questions())
    return Answers(release_no, shown["as_of_date"], shown["released_at"], previous, names, answers)


@contextmanager
def reading(role: str = ROLES["bi"]) -> Iterator[Connection]:
    """A session with the rights of a reader, that writes nothing and sees one state of the release.

    The login is the builder's: one that readers share may have no session left, or settings that end it.
    """
    with connect("builder") as connection:
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            connection.execute(sql.SQL("set local statement_timeout = {}").format(sql.Literal(TIMEOUT)))
            connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
            yield connection


def _answer(
    connection: Connection,
    release_no: int,
    question: Question,
    coverage: dict[str, list[tuple[Any, ...]]],
    taken: dict[str, Taken],
) -> Answer:
    covers = _coverage(question, coverage)
    of_feeds = tuple(taken[feed] for feed, _, _ in covers.feeds if feed in taken)
    try:
        with connection.transaction():
            # It lasts until the next question sets another one.
            connection.execute(sql.SQL("set local role {}").format(sql.Identifier(_reader(question.marts))))
            columns, rows = _rows(connection, release_no, question.shown)
            _, facts = _rows(connection, release_no, question.facts) if question.facts else ((), [{}])
    except psycopg.Error as error:
        # The other questions have their pages.
        hide_values(error)
        problem = " ".join(str(error).split())
        return Answer(question, (), (), {}, covers, of_feeds, problem)
    return Answer(question, columns, tuple(rows), facts[0] if facts else {}, covers, of_feeds)


def _reader(marts: Iterable[str]) -> str:
    """The role with the least rights that may read all of these marts."""
    may = all(POLICY_READER in disclosure.class_of(mart).readers for mart in marts)
    return POLICY_READER if may else ROLES["bi"]


def _rows(connection: Connection, release_no: int, query: str) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    schema = release.schemas_of(release_no)[0]
    # Queries are the platform's own files: `marts.` stands before relations only.
    cursor = connection.execute(re.sub(r"\bmarts\.(?=\w)", f"{schema}.", query))
    columns = tuple(column.name for column in cursor.description or ())
    return columns, [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


# --- coverage ---------------------------------------------------------------------------------------------------------


def _coverages(connection: Connection, release_no: int) -> dict[str, list[tuple[Any, ...]]]:
    """By mart, of the feeds of its figures: feed, title, last complete and newest date, behind, complete to, carried from."""
    _, rows = _rows(connection, release_no, "select * from marts.dim_mart_coverage where is_figure order by mart, feed")
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        found.setdefault(row["mart"], []).append(
            (row["feed"], row["feed_title"], row["last_complete_date"], row["last_date"], row["is_behind"],
             row["mart_complete_date"], row["carried_from_release_no"])
        )  # fmt: skip
    return found


def _coverage(question: Question, coverage: dict[str, list[tuple[Any, ...]]]) -> Coverage:
    rows = [row for mart in question.marts for row in coverage.get(mart, ())]
    feeds = {row[0]: row for row in rows}
    complete, newest = [row[5] for row in rows], [row[3] for row in rows if row[3]]
    return Coverage(
        complete_to=min(complete) if complete and None not in complete else None,
        newest=max(newest, default=None),
        behind=tuple(row[:3] for row in feeds.values() if row[4]),
        feeds=tuple(row[:3] for row in feeds.values()),
        carried_from=max((row[6] for row in rows if row[6] is not None), default=None),
    )


def _names(connection: Connection, release_no: int) -> dict[str, dict[str, tuple[str, str]]]:
    """Names of codes, by what marts call the code: of dimensions, and of festivals, which have none, from their seed."""
    found = {}
    for dimension in NAMES_OF:
        code = CODE_OF.get(dimension, dimension)
        _, rows = _rows(connection, release_no, f"select {code} as code, name_en, name_zh from marts.dim_{dimension}")
        found[code] = {row["code"]: (row["name_en"], row["name_zh"] or row["name_en"]) for row in rows}
    found["event_id"] = event_names()
    return found


def event_names() -> dict[str, tuple[str, str]]:
    """Names of festivals by event_id, English and Chinese."""
    with _files()["festival_events"].open(encoding="utf-8", newline="") as seed:
        # Events of different years have one name in Chinese.
        return {
            row["event_id"]: (row["name_en"], f"{row['name_zh']}{row['first_day'][:4]}") for row in csv.DictReader(seed)
        }


# --- what changed -----------------------------------------------------------------------------------------------------


def _taken(release_no: int) -> tuple[int | None, dict[str, Taken]]:
    """The release before one, and by feed what was taken in since. A correction is of a date taken in before."""
    with connect("builder") as connection:
        connection.read_only = True
        previous = connection.execute(
            "select max(release_no) from ops.release where release_no < %s", [release_no]
        ).fetchone()
        before = previous[0] if previous else None
        rows = connection.execute(
            """
            with taken as (
                select build_no, feed, business_date, is_withdrawn
                from ops.build_batch
                inner join ops.release on build_no = release_no
                inner join ops.batch using (batch_id)
            ),
            judged as (
                select feed, is_withdrawn, exists (
                    select from taken as earlier
                    where earlier.feed = taken.feed and earlier.business_date = taken.business_date
                        and earlier.build_no <= %(before)s
                ) as is_correction
                from taken
                where build_no > %(before)s and build_no <= %(now)s
            )
            select
                feed,
                count(*) filter (where not is_withdrawn and not is_correction),
                count(*) filter (where not is_withdrawn and is_correction),
                count(*) filter (where is_withdrawn)
            from judged
            group by feed
            """,
            {"before": before or 0, "now": release_no},
        ).fetchall()
    return before, {row[0]: Taken(*row) for row in rows}


@cache
def _definition_of(mart: str) -> str:
    """The text of the models, macros and seeds that a mart is made with, as a hash."""
    files = _files()
    macros = sorted((settings().home / "dbt_project" / "macros").rglob("*.sql"))
    wanted, seen = [mart], set[str]()
    while wanted:
        name = wanted.pop()
        if name not in seen and name in files:
            seen.add(name)
            wanted += REFERENCE.findall(files[name].read_text(encoding="utf-8"))
    texts = [path.read_bytes() for path in [*macros, *(files[name] for name in sorted(seen))]]
    return hashlib.sha256(b"\n".join(texts)).hexdigest()


@cache
def _files() -> dict[str, Path]:
    project = settings().home / "dbt_project"
    found: Sequence[Path] = [*project.glob("models/**/*.sql"), *project.glob("seeds/*.csv")]
    return {path.stem: path for path in found}
