"""The list of words that went: found in prose, comments and over the end of a line."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sampan.settings import HOME


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("page.md", "One\nNobody knows.\n", "page.md:2: 'Nobody': write "),
        ("code.py", "# A key must not be let\n# pass.\n", "code.py:1: 'let pass': write "),
        ("model.sql", "-- Built\n-- anew\nselect 1\n", "model.sql:2: 'anew': write "),
        ("code.py", "if key is None and not there:\n    pass\n", None),
        ("page.md", "There is no key, where there is none.\n", None),
        ("page.md", "這批數據已暫緩處理。\n", "page.md:1: '暫緩': write 暫扣"),
        ("page.txt", "Nobody\n", None),
    ],
    ids=["prose", "comment over two lines", "sql", "python", "plain english", "inside chinese", "another kind of file"],
)
def test_plain_words_names_line_and_replacement_of_a_word_that_went(tmp_path, file, text, found):
    (tmp_path / file).write_text(text)
    for command in (["git", "init", "--quiet"], ["git", "add", "."]):
        subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run(
        [sys.executable, HOME / ".ci" / "plain_words.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == (1 if found else 0)
    assert done.stdout.startswith(found or "")
    assert bool(done.stdout) == bool(found)
