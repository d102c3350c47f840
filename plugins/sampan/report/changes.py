"""What an answer says that it did not say in the release before, and why: from what each report keeps of its answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sampan.report.answers import Answer, Answers
from sampan.report.words import raw, unit_of

KEPT = "answers.json"


@dataclass(frozen=True)
class Change:
    """How an answer differs from the one before. `sentences` are those of then, by language."""

    release_no: int
    sentences: dict[str, str]
    added: int
    gone: int
    changed: int
    is_redefined: bool

    @property
    def is_same(self) -> bool:
        """Whether every row is as it was."""
        return not (self.added or self.gone or self.changed)


def keep(folder: Path, answers: Answers, sentences: dict[int, dict[str, str]]) -> None:
    """Write what the next report compares with."""
    content = {
        "release_no": answers.release_no,
        "questions": {
            str(answer.question.number): {
                "definition": answer.definition,
                "columns": answer.columns,
                "rows": [[raw(value) for value in row.values()] for row in answer.rows],
                "keys": key_columns(answer),
                "sentences": sentences[answer.question.number],
            }
            for answer in answers.answers
            if answer.problem is None
        },
    }
    (folder / KEPT).write_text(json.dumps(content, ensure_ascii=False, indent=0), encoding="utf-8")


def kept(file: Path) -> dict[str, Any] | None:
    """What an earlier report kept; None when there is none."""
    found: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    return found


def change(answer: Answer, before: dict[str, Any] | None) -> Change | None:
    """How an answer differs from the kept one; None when there is nothing to compare with."""
    then = (before or {"questions": {}})["questions"].get(str(answer.question.number))
    if before is None or then is None or answer.problem is not None:
        return None
    rows = [[raw(value) for value in row.values()] for row in answer.rows]
    keys, then_keys = key_columns(answer), then["keys"]
    if keys == then_keys:
        keys = then_keys = _telling(keys, (answer.columns, rows), (then["columns"], then["rows"]))
    now_rows, then_rows = _by_key(answer.columns, rows, keys), _by_key(then["columns"], then["rows"], then_keys)
    return Change(
        before["release_no"],
        then["sentences"],
        added=len(now_rows.keys() - then_rows.keys()),
        gone=len(then_rows.keys() - now_rows.keys()),
        changed=sum(now_rows[key] != then_rows[key] for key in now_rows.keys() & then_rows.keys()),
        is_redefined=then["definition"] != answer.definition,
    )


def key_columns(answer: Answer) -> list[str]:
    """The columns that say which row it is: codes, dates and years."""

    def is_key(column: str) -> bool:
        values = [row[column] for row in answer.rows if row[column] is not None]
        is_text = bool(values) and not isinstance(values[0], int | float) and not hasattr(values[0], "as_tuple")
        return is_text or isinstance(values[0] if values else None, bool) or (unit_of(column) == "year")

    return [column for column in answer.columns if is_key(column)]


def _telling(keys: list[str], *tables: tuple[Sequence[str], list[list[str]]]) -> list[str]:
    """As many of the columns, from the left, as tell all rows of each table apart. A date in a row may change."""
    for count in range(1, len(keys)):
        if all(len(_by_key(columns, rows, keys[:count])) == len(rows) for columns, rows in tables):
            return keys[:count]
    return keys


def _by_key(columns: Sequence[str], rows: list[list[str]], keys: list[str]) -> dict[tuple[str, ...], list[str]]:
    places = [list(columns).index(key) for key in keys]
    return {tuple(row[place] for place in places): row for row in rows}
