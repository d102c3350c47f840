"""The pages of a release: one per question and language, start pages, charts, and downloads as CSV and XLSX."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from sampan.report import changes, charts, open_data
from sampan.report.answers import Answer, Answers, State
from sampan.report.words import LANGUAGES, TAGS, Words, joined, raw, unit_of
from sampan.settings import settings
from sampan.text import printable, spreadsheet_text

# Rows that a page shows; the downloads have all of them.
SHOWN = 100
# So that spreadsheets read UTF-8 as such.
BOM = "utf-8-sig"
# Folders of the languages.
FOLDERS = {"en": "en", "zh": "zh-Hant"}
FORMATS = {"share": "0.0%", "hkd": "#,##0", "cny": "#,##0", "ratio": "0.000", "year": "0"}


def write(folder: Path, answers: Answers, before: dict[str, Any] | None) -> list[Path]:
    """Write all pages of a release into an empty folder. `before` is what an earlier report kept. Returns the files."""
    spoken = {language: Words(language, answers.names) for language in LANGUAGES}
    said = {
        answer.question.number: {language: sentence(answer, words) for language, words in spoken.items()}
        for answer in answers.answers
    }
    for language, words in spoken.items():
        place = folder / FOLDERS[language]
        for part in ("", "charts", "data"):
            (place / part).mkdir(parents=True, exist_ok=True)
        shared = _shared(answers, words)
        entries = [
            {
                "answer": answer,
                "sentence": said[answer.question.number][language],
                "state": word_of(answer.state, words),
            }
            for answer in answers.answers
        ]
        _render(
            place / "index.html",
            "start.html",
            shared,
            entries=entries,
            published=open_data.published(),
            page="index.html",
        )
        for answer, previous, following in _with_neighbours(answers.answers):
            name = answer.question.name
            _write_charts(place / "charts", answer, words)
            _write_csv(place / "data" / f"{name}.csv", answer, words)
            _write_xlsx(place / "data" / f"{name}.xlsx", answer, words, said[answer.question.number][language], answers)
            _render(
                place / f"{name}.html",
                "question.html",
                shared,
                page=f"{name}.html",
                answer=answer,
                sentence=said[answer.question.number][language],
                state=word_of(answer.state, words),
                change=changes.change(answer, before),
                chart=(place / "charts" / f"{name}.svg").exists(),
                table=table(answer, words),
                previous=previous,
                following=following,
            )
    _render(folder / "index.html", "languages.html", _shared(answers, spoken["en"]), spoken=spoken, page="index.html")
    changes.keep(folder, answers, said)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sentence(answer: Answer, words: Words) -> str:
    """The answer in a sentence; why there is none where there are no rows to quote."""
    if not answer.quotable:
        # Figures of an earlier release, too, may have no row to quote.
        return words.text("sentence_failed" if answer.problem else "sentence_nothing")
    return words.sentence(answer.question, answer.quotable, answer.facts)


def word_of(state: State, words: Words) -> dict[str, str]:
    """A state as a class of the style sheet, a word and what it means."""
    return {"css": str(state), "word": words.text(f"state_{state}"), "meaning": words.text(f"meaning_{state}")}


def table(answer: Answer, words: Words) -> dict[str, Any]:
    """The table of a page: headings, and rows of cells with text, value as SQL gave it, and kind, a class of styles."""
    kinds = {column: _kind(answer, column) for column in answer.columns}
    rows = [
        [
            {"text": words.value(column, value, row), "raw": raw(value), "kind": kinds[column]}
            for column, value in row.items()
        ]
        for row in answer.rows[:SHOWN]
    ]
    heads = [{"text": words.heading(column), "column": column, "kind": kinds[column]} for column in answer.columns]
    return {"heads": heads, "rows": rows, "all": len(answer.rows), "shown": len(rows)}


def _kind(answer: Answer, column: str) -> str:
    """What the cells of a column hold: number, date, or '' for text."""
    value = next((row[column] for row in answer.rows if row[column] is not None), None)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return "number"
    return "date" if isinstance(value, date) else ""


def _with_neighbours(answers: Sequence[Answer]) -> Iterator[tuple[Answer, Answer | None, Answer | None]]:
    padded = [None, *answers, None]
    yield from zip(answers, padded, padded[2:], strict=False)


# --- HTML -------------------------------------------------------------------------------------------------------------


@cache
def environment() -> Environment:
    """Templates whose values are escaped."""
    made = Environment(
        loader=PackageLoader("sampan.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters["prose"] = prose
    made.filters["with_unit"] = with_unit
    return made


def with_unit(heading: str) -> Markup:
    """A heading whose unit, in brackets at its end, stays on one line: Chinese would break within it."""
    return Markup(re.sub(r"([（(][^（()）]+[)）])$", r'<span class="unit">\1</span>', str(escape(heading))))  # noqa: S704


def prose(text: str) -> Markup:
    """Paragraphs of a text with names in backticks, as HTML. Links lead into the repository and are dropped."""
    paragraphs = []
    for paragraph in text.strip().split("\n\n"):
        plain = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", joined(paragraph))
        paragraphs.append(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(plain))))
    return Markup("".join(f"<p>{paragraph}</p>\n" for paragraph in paragraphs))  # noqa: S704


def _render(file: Path, template: str, shared: dict[str, Any], **values: Any) -> None:
    file.write_text(environment().get_template(template).render(shared | values), encoding="utf-8")


def _shared(answers: Answers, words: Words) -> dict[str, Any]:
    other = next(language for language in LANGUAGES if language != words.language)
    return {
        "words": words,
        "t": words.text,
        "language": words.language,
        "tag": TAGS[words.language],
        "other": {"language": other, "tag": TAGS[other], "folder": FOLDERS[other], "name": LANGUAGES[other]},
        "folders": FOLDERS,
        "release": answers,
        "synthetic": settings().synthetic,
        "style": _style(),
    }


@cache
def _style() -> str:
    return (Path(__file__).with_name("templates") / "style.css").read_text(encoding="utf-8")


def write_index(folder: Path, releases: Sequence[int], names: Any) -> None:
    """Write the page above the folders of the releases that are there, newest first."""
    values = {"words": Words("en", names), "zh": Words("zh", names), "releases": releases, "style": _style()}
    values |= {"synthetic": settings().synthetic, "folders": FOLDERS}
    (folder / "index.html").write_text(environment().get_template("releases.html").render(values), encoding="utf-8")


# --- charts and downloads ---------------------------------------------------------------------------------------------


def _write_charts(folder: Path, answer: Answer, words: Words) -> None:
    chart = answer.question.chart
    if chart is None or not answer.quotable:
        return
    for ending, width in (("", charts.WIDE), ("-narrow", charts.NARROW)):
        drawn = charts.svg(chart, answer.rows, words, width)
        if drawn is not None:
            (folder / f"{answer.question.name}{ending}.svg").write_text(drawn, encoding="utf-8")


def _write_csv(file: Path, answer: Answer, words: Words) -> None:
    with file.open("w", encoding=BOM, newline="") as out:
        writer = csv.writer(out)
        writer.writerow([spreadsheet_text(_heading(words, column)) for column in answer.columns])
        for row in answer.rows:
            writer.writerow([_plain(words, column, value, row) for column, value in row.items()])


def _plain(words: Words, column: str, value: Any, row: dict[str, Any]) -> str:
    """A cell of a CSV file: numbers as SQL gave them, codes by name."""
    if isinstance(value, str | bool):
        return spreadsheet_text(words.value(column, value, row))
    return raw(value)


def _write_xlsx(file: Path, answer: Answer, words: Words, said: str, answers: Answers) -> None:
    import xlsxwriter

    # Text stays text: no cell becomes a formula or a link.
    options = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False, "in_memory": True}
    with xlsxwriter.Workbook(str(file), options) as book:
        book.set_properties(
            {"title": answer.question.title[words.language], "created": answers.released_at.replace(tzinfo=None)}
        )
        head = book.add_format({"bold": True, "text_wrap": True, "valign": "top", "bottom": 1})
        wrap = book.add_format({"text_wrap": True, "valign": "top"})
        formats = {unit: book.add_format({"num_format": form}) for unit, form in FORMATS.items()}
        days, plain = book.add_format({"num_format": "yyyy-mm-dd"}), book.add_format({"num_format": "#,##0.##"})
        sheet = book.add_worksheet(words.text("sheet_answer"))
        sheet.freeze_panes(1, 0)
        for place, column in enumerate(answer.columns):
            sheet.write_string(0, place, printable(_heading(words, column)), head)
            sheet.set_column(place, place, 18)
            for line, row in enumerate(answer.rows, 1):
                value = row[column]
                if isinstance(value, datetime | date):
                    sheet.write_datetime(line, place, datetime(value.year, value.month, value.day), days)  # noqa: DTZ001
                elif isinstance(value, str | bool):
                    sheet.write_string(line, place, spreadsheet_text(words.value(column, value, row)))
                elif value is not None:
                    sheet.write_number(line, place, float(value), formats.get(unit_of(column), plain))
        about = book.add_worksheet(words.text("sheet_about"))
        about.set_column(0, 0, 22)
        about.set_column(1, 1, 100)
        for line, (name, text) in enumerate(_about(answer, words, said, answers)):
            about.write_string(line, 0, name, head)
            about.write_string(line, 1, printable(text), wrap)


def _heading(words: Words, column: str) -> str:
    """The heading in a download. Shares have no % there: a CSV file has them as parts of 1, a workbook formats them."""
    return words.label(column) if unit_of(column) == "share" else words.heading(column)


def _about(answer: Answer, words: Words, said: str, answers: Answers) -> list[tuple[str, str]]:
    state = word_of(answer.state, words)
    rows = [
        (words.text("question"), f"{answer.question.number}. {answer.question.title[words.language]}"),
        (words.text("answer"), said),
        (words.text("may_be_quoted"), f"{state['word']}: {state['meaning']}"),
        (words.text("complete_to"), str(answer.coverage.complete_to or words.text("not_known"))),
        (words.text("disclosure"), words.text(f"class_{answer.disclosure}")),
        (words.text("know"), answer.question.know[words.language].strip()),
        (words.text("release"), f"{answers.release_no} ({answers.released_at:%Y-%m-%d %H:%M})"),
        (words.text("query"), answer.question.shown.strip()),
    ]
    return [(words.text("synthetic_label"), words.text("synthetic"))] * settings().synthetic + rows
