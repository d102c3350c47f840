"""Text of partners on its way to a person: terminals obey control characters, spreadsheets compute formulas."""

from __future__ import annotations

import html
import io
import logging
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from sampan.text import OneLineFormatter, from_spreadsheet, indented, literal, printable, spreadsheet_text

FORMULAS = [
    '=HYPERLINK("http://x")', "=cmd|' /C calc'!A0", "+1+cmd|x", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1", "-",
    "+852 2345 6789", "-1,000-",
]  # fmt: skip
NUMBERS = ["-1", "+1", "-1.005", "-1,234.50", "-1e5", "0", ""]


@pytest.mark.parametrize("text", FORMULAS)
def test_spreadsheet_text_marks_what_a_spreadsheet_would_compute(text):
    assert spreadsheet_text(text) == "'" + printable(text)


@pytest.mark.parametrize("text", [*NUMBERS, "plain", "'quoted'", "a=b", "中文", "2026-07-06"])
def test_spreadsheet_text_leaves_numbers_and_plain_text_as_they_are(text):
    assert spreadsheet_text(text) == text == from_spreadsheet(text)


@given(st.text())
def test_no_text_of_a_partner_begins_a_formula_or_reaches_a_terminal_as_a_command(text):
    safe = spreadsheet_text(text)
    assert safe[:1] not in tuple("=+@\t\r＝＋－＠") or text.lstrip("+-")[:1].isdigit()
    assert not {"\x1b", "\x07", "\r", "\x9b", "\u202e", "\u200b"} & set(safe)
    assert not {"\x1b", "\x07", "\r", "\x9b", "\u202e", "\u200b"} & set(printable(text))


def test_printable_keeps_what_people_write_and_indented_lets_no_line_pass_for_a_message():
    assert printable("Café 香港\u3000有限公司 \ue000") == "Café 香港\u3000有限公司 \ue000"
    assert printable("a\x1b[31m\x07\u202eb\x00") == r"a\x1b[31m\x07\u202eb\x00"
    assert indented("x\r\nsampan: everything is fine") == "x\\r\n    sampan: everything is fine"


def test_a_log_record_is_one_line_and_its_stack_trace_is_indented():
    """Kind of fault: a file name with a line end or ESC forges lines of the log."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(OneLineFormatter("%(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise ValueError("of\nsampan: forged \x1b[2J")
    except ValueError:
        logger.exception("%s refused", "a\n2026 batch 1 published\x1b]0;x\x07.csv")
    first, *rest = out.getvalue().splitlines()
    assert first == r"a\n2026 batch 1 published\x1b]0;x\x07.csv refused"
    assert rest
    assert all(line.startswith("    ") for line in rest)
    assert "\x1b" not in out.getvalue()


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"])))
@example("[Accept](http://evil.example) ![x](/logout) <b>*x*</b> `c` <http://x.y> # a\\")
@example("| a | b |")
@example("1. x")
@example("www.x.y a@b.c ~~x~~ &lt; - x")
def test_no_mark_of_a_literal_text_is_markdown(text):
    shown = MarkdownIt("gfm-like", {"linkify": False}).render(f"x {literal(text)}")
    assert not re.search("<(?!/?p>)", shown)
    assert html.unescape(re.sub("</?p>", "", shown)).split() == f"x {text}".split()
