"""Records as they may be stored: personal data dropped or replaced, characters that PostgreSQL cannot hold marked."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sampan.contracts.values import WITHHELD
from sampan.errors import Code
from sampan.reading import hkid
from sampan.reading.delivery import Delivery
from sampan.reading.layout import Layout
from sampan.reading.sieve import suspects

# Halves of characters, which JSON can spell and no encoding can hold.
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Record:
    """One record: first line, stored fields in the layout's order (text or None), broken structural rules, its text."""

    line: int
    fields: list[str | None]
    broken: list[str]
    text: str


class RecordCleaner:
    """Makes records of what a format reads."""

    def __init__(self, delivery: Delivery, layout: Layout) -> None:
        self.columns, self.width = layout.columns, len(layout.stored)
        self.private, self.expects_hkid = delivery.private, delivery.expects_hkid
        self.withhold = layout.has_unknown or any(column.wholly_personal for column in delivery.contract.columns)

    def record(
        self,
        line: int,
        values: Sequence[str | None],
        broken: list[str],
        text: str | None,
        wrong: Sequence[bool] = (),
        nested: Sequence[bool] = (),
    ) -> Record:
        """A record of `values`, one for each field of the delivery.

        `text` is the record as it was delivered, None where that may not be shown or is not text: it is then written as
        CSV. `wrong` says which values are not of their column's type although they have a text, such as errors. `nested`
        says which are lists or objects: what is in them has names of its own, which no contract knows, so that it is not
        kept.
        """
        if any(nested):
            values = [WITHHELD if within else value for value, within in zip(values, nested, strict=True)]
            wrong, text = nested, None
        if any(wrong):
            types = [
                f"{c.name}.type" for c, bad in zip(self.columns, wrong, strict=True) if c and bad and c.type == "text"
            ]
            broken = [*broken, *types]
        fields: list[str | None] = []
        changed = text is None
        searched = suspects([value or "" if column else "" for column, value in zip(self.columns, values, strict=True)])
        for place, (column, value) in enumerate(zip(self.columns, values, strict=True)):
            if column is None:
                changed = changed or bool(value)
                continue
            is_withheld = bool(nested) and nested[place]
            if not value or is_withheld or (column.personal == "none" and place not in searched):
                fields.append(value or None)
                continue
            cleaned = self.private.clean(column, self.private.without_pseudonyms(value))
            if "\0" in cleaned:
                cleaned, broken = cleaned.replace("\0", "\u2400"), [*broken, Code.RECORD_NUL]
            if SURROGATE.search(cleaned):
                cleaned, broken = SURROGATE.sub("\ufffd", cleaned), [*broken, Code.RECORD_ENCODING]
            changed = changed or cleaned != value
            fields.append(cleaned)
        if changed or text is None:
            text = csv_line([value or "" for value in fields])
        return Record(line, fields, broken, text)

    def crosses(self, text: str, values: Sequence[str]) -> bool:
        """Whether a number of a person begins in one value and ends in another: in the text nothing stands between them."""
        # Hardly a line may hold one, and to see that takes a thirtieth of the time.
        return bool(suspects([text])) and hkid.count(text) > sum(map(hkid.count, values))

    def unsplit(self, line: int, broken: list[str], text: str, unescaped: str | None = None) -> Record:
        """A record that could not be split into the layout's fields.

        `unescaped` is its text without the format's escapes. It is shown instead of `text` only where it holds personal
        data, which is then replaced.
        """
        if self.withhold:
            text = f"[withheld: {len(text)} characters that could not be split and may hold personal data]"
        elif unescaped is not None and self.private.clean_text(unescaped, self.expects_hkid) != unescaped:
            text = unescaped
        return Record(line, [None] * self.width, broken, self.private.clean_text(text, self.expects_hkid))


def csv_line(values: Sequence[str]) -> str:
    """Values as one CSV line, without a line end."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(values)
    return buffer.getvalue()


def cell_text(value: Any) -> str | None:
    """A typed value of a workbook or Parquet file as the text that PostgreSQL reads back to the same value."""
    # The most of what is not text.
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else str(value)
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)
