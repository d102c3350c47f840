"""Look for words that this project does not use, in prose, comments, messages and names: file, line, word, replacement.

The words are in plain-words.yml, beside this file; each is a regular expression, and a space in it is any white space, the
start of a comment's next line included. `--count` prints how many each file has instead.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import yaml

RULES = yaml.safe_load(Path(__file__).with_name("plain-words.yml").read_text())
BREAK = r"\s+(?:(?:#|--)\s+)?"


def findings() -> Iterator[tuple[str, int, str, str]]:
    """File, line, the words found there and what to write instead."""
    words = {_pattern(word): better for word, better in RULES["words"].items()}
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout.split("\0")
    for file in listed:
        wanted = any(fnmatch(file, pattern) for pattern in RULES["files"])
        if wanted and not any(fnmatch(file, pattern) for pattern in RULES["except"]) and Path(file).exists():
            text = Path(file).read_text()
            for pattern, better in words.items():
                for match in pattern.finditer(text):
                    yield file, text.count("\n", 0, match.start()) + 1, re.sub(BREAK, " ", match[0]), better


def _pattern(word: str) -> re.Pattern[str]:
    # Chinese has no spaces: a word begins and ends anywhere.
    edge = r"\b" if word.isascii() else ""
    return re.compile(f"{edge}(?:{word.replace(' ', BREAK)}){edge}", re.IGNORECASE)


if __name__ == "__main__":
    found = sorted(findings())
    if "--count" in sys.argv:
        counts = Counter(file for file, *_ in found)
        print("\n".join(f"{count:5} {file}" for file, count in counts.most_common()))
    else:
        print("\n".join(f"{file}:{line}: '{word}': write {better}" for file, line, word, better in found), end="")
        sys.exit(f"\n{len(found)} words that this project does not use" if found else 0)
