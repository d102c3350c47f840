r"""The spellings of an HKID number: one or two letters, six digits and a check digit.

Text is looked at in a plain form: characters of any width, style or script that look like a letter, a digit, a bracket, a
dash or a blank are that ASCII character, and what cannot be seen is gone. Text with characters in another notation (`%28`,
`&#40;`, `&lpar;`, `=28`, `\u0028`, `\x28`, `\050`) is looked at as it is and with these read, also when they are nested
(`%2528`). In it a number is found

* in brackets, `A123456(3)`, in any text and with any check digit;
* grouped in any other way, `A12 34-56/3`, with tags (`A123456<br>3`), a name of the check digit in it (`A123456, check
  digit 3`, `A123456(第3號)`) or the check digit in quotes (`A123456"3"`), when it is right: of other texts of this shape
  one in eleven has such a digit. Letters that stand apart from the digits are a word of their own, and at most FRAME
  letters or digits touch the number. So parts of hashes, of container numbers and of UUIDs do not count.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from itertools import chain
from operator import mul

FRAME = 4
_OPEN, _CLOSE = r"[(<\[{]", r"[)>\]}]"
# What may stand between the parts of a number, besides the brackets.
_MARKS = r"\x01-\t\x0b- \x7f+\-./:\\_~;|*'!^`#?"
# And what a page or a sentence has there: a tag such as <br> or <td align="right">, and what the check digit is called.
_TAG = r"</?[A-Za-z][^<>\n]{0,100}>"
# <A> is a check digit in brackets.
_ONLY_TAG = f"(?!<[Aa]>){_TAG}"
_CALLED = "(?:[Cc][Hh][Ee][Cc][Kk](?: ?-?[Dd][Ii][Gg][Ii][Tt])?|[Bb]racket|校驗碼|檢驗碼|校验码|检验码|括號|括号|括弧)"
# 第3號, number 3; 第3批, the third lot, is of something else.
_ORDINAL = "第(?= ?[0-9Aa] ?[號号])"
_GAP = rf"(?:[{_MARKS},()<>\[\]{{}}]|{_ONLY_TAG}){{0,12}}"
_BRACKETED = rf"[A-Za-z]{{1,2}}[ -]?[0-9]{{6}}[ -]?{_OPEN} ?[0-9Aa] ?{_CLOSE}"
# In a line of CSV a quote is doubled, in one of JSON a backslash is before it.
_IN_QUOTES = r'"{1,2}[0-9Aa][\\"]'
_GROUPED = (
    rf"(?:(?<![A-Za-z])[A-Za-z]{{1,2}}{_GAP}|[A-Za-z]{{1,2}})"
    # An amount with its currency, HKD 1,234,567, does not count.
    r"(?![0-9],[0-9]{3},[0-9]{3}(?![0-9]))"
    rf"[0-9](?:{_GAP}[0-9]){{5}}{_GAP}?(?:(?:{_CALLED}|{_ORDINAL}){_GAP}?)?"
    rf'(?:(?:"{{1,2}}{_GAP})?{_OPEN} ?[0-9Aa] ?{_CLOSE}|{_IN_QUOTES}|[0-9Aa](?![0-9]))'
)
# The only form that counts in a code, which it fills or in which other marks than letters and digits stand around it.
CODE = r"(?:^|[^A-Za-z0-9])([A-Za-z]{1,2}[ -]?[0-9]{6}[ -]?[0-9Aa])(?:[^A-Za-z0-9]|$)"
_SPELLED = re.compile(rf"({_BRACKETED})|{_GROUPED}")
_NOT_OF_IT = re.compile(f"{_ONLY_TAG}|{_CALLED}")
# Nearly no text has six digits, and to look for them costs a fraction of what _SPELLED does.
_SIX_DIGITS = re.compile(rf"[0-9](?:{_GAP}[0-9]){{5}}")
# Numbers of containers (ISO 6346) and UUIDs: a part of them often looks like one.
_ANOTHER = re.compile(
    r"(?<![A-Za-z0-9])(?:[A-Z]{3}[JUZ][0-9]{7}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})(?![A-Za-z0-9])"
)
_STRICT = re.compile(r"[A-Z]{1,2}[0-9]{6}[0-9A]")
# What the characters of a number count.
_VALUES = {char: value for value, char in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ ")}

_H = "[0-9A-Fa-f]"
# Quoted-printable keeps letters and digits: after "=" they would make numbers of innocent ones.
_ASCII, _ASCII_MARKS = rf"0[0-9A-Da-d]|[2-7]{_H}", r"0[9ADad]|2[0-9A-Fa-f]|3[A-Fa-f]|40|[57][B-Fb-f]|60"
# A byte in a notation, or the bytes of a character in UTF-8; of those in Latin 1 only a soft hyphen and a blank.
_BYTES = "|".join(
    rf"{mark}(?:{ascii_bytes}|[CDcd]{_H}{more}|[Ee]{_H}{more}{{2}}|[Ff][0-7]{more}{{3}}|[Aa][0Dd])"
    for mark, ascii_bytes in (("%", _ASCII), (r"\\x", _ASCII), ("=", _ASCII_MARKS))
    for more in (rf"(?:{mark}[89ABab]{_H})",)
)
_CODES = "|".join(
    (
        rf"[\\%]u[Dd][89ABab]{_H}{{2}}[\\%]u[Dd][C-Fc-f]{_H}{{2}}",
        rf"[\\%]u{_H}{{4}}",
        rf"\\u\{{{_H}{{1,6}}\}}",
        rf"\\U{_H}{{8}}",
        r"\\(?:0[45][0-7]|1[37][35])",
    )
)
_ENTITY = rf"&(?:#[0-9]{{1,8}}|#[Xx]{_H}{{1,7}}|[A-Za-z][0-9A-Za-z]{{1,31}});?"
# A character in another notation than itself.
ENCODED = rf"{_BYTES}|{_CODES}|{_ENTITY}"
_ENCODED = re.compile(ENCODED)
# One of these is in each notation.
ENCODING_MARKS = "%=\\&"
# How often a notation may be within another.
_NESTED = 4
# A character of a plain form, and where it begins and ends in the text.
Place = tuple[str, int, int]

# Blocks of Unicode without ideographs, in which look-alikes are; each range is looked through once in a process.
_BLOCKS = (
    range(0x80, 0x3040), range(0x3099, 0x30A1), range(0x30FB, 0x30FD), range(0x3164, 0x3165),
    range(0xA4D0, 0xAC00), range(0xFD3E, 0xFD40), range(0xFE00, 0x12000),
    range(0x16A00, 0x16C00), range(0x1D400, 0x1D800), range(0x1DF00, 0x1EA00), range(0x1F000, 0x1FC00),
    range(0xE0000, 0xE0200),
)  # fmt: skip
_LOOK_ALIKES = str.maketrans(
    # Cyrillic, Greek, Cherokee, Latin
    "АВСЕНІЈКМОРЅТХУҮԚԜѴавсеһіјкмнорѕтхуԛԝѵԁ"
    "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹϳαικνορτυχγϲ"
    "ᎪᏴᏟᎠᎬᏀᎻᎫᏦᏞᎷᏢᏚᎢᏙᏔᏃıɡɑ"
    "\u00b7\u2022\u2027\u3002\u2044\u2215\u2212\u2800\u2400\u3001\u203b\u2190\u2192\u30fb\u30fc",
    "ABCEHIJKMOPSTXYYQWVabcehijkmhopstxyqwvd"
    "ABEZHIKMNOPTYXCjaiknoptuxyc"
    "ABCDEGHJKLMPSTVWZiga"
    "....//-  ,*--.-",
)  # fmt: skip
# Written from right to left, so that Unicode calls the one that begins the closing one.
_TURNED = {"\ufd3e": "(", "\ufd3f": ")"}
# What Unicode calls punctuation and symbols, but for currencies and those of calculations: parts have prices behind them.
_MARKING = ("Pc", "Pd", "Po", "Sk", "Sm", "So")
_CALCULATING = "\u00b1\u00d7\u00f7\u00ac\u2260\u2248\u2264\u2265\u066a\ufe6a\uff05"
_INVISIBLE_LETTERS = "\u115f\u1160\u3164\uffa0"
_LATIN = re.compile(r".*(?:LATIN|REGIONAL).* (SMALL )?LETTER (?:SMALL CAPITAL )?([A-Z])(?: WITH .*)?")


def plain(text: str) -> str:
    """Text in its plain form. It may be shorter or longer than the text."""
    return text if text.isascii() else text.translate(_plain_characters())


def decoded(text: str) -> str:
    """The plain form of a text once its notations are read."""
    for _ in range(_NESTED if any(mark in text for mark in ENCODING_MARKS) else 0):
        text = _ENCODED.sub(lambda match: _read(match.group()), text)
    return plain(text)


def letters_and_digits(text: str) -> str:
    """The letters and digits of a text in upper case, without what stands between the parts of a number."""
    return re.sub(r"[^A-Z0-9]", "", _NOT_OF_IT.sub("", plain(text)).upper())


def has_right_check_digit(text: str) -> bool:
    """Whether letters and digits of a text are an HKID number (weights 9 to 1, a blank counts 36, modulo 11)."""
    found = _STRICT.fullmatch(text) or _STRICT.fullmatch(letters_and_digits(text))
    if not found:
        return False
    # The check digit A counts 10, as the letter does.
    weighted: int = sum(map(mul, map(_VALUES.__getitem__, f"{found.group():>9}"), range(9, 0, -1)))
    return weighted % 11 == 0


def may_be_one(text: str) -> bool:
    """Whether what has the letters and digits of a number may be one: its check digit is right or in brackets."""
    return has_right_check_digit(text) or bool(re.search(_OPEN, plain(text)))


def replace(text: str, by: Callable[[str], str | None], frame: int = FRAME) -> str:
    """Text with its HKID numbers replaced. `by` takes one in plain form; None keeps it.

    `frame`: how many letters or digits may touch a number without brackets.
    """

    def numbers(flat: str) -> Iterable[tuple[int, int]]:
        # A cell may be wrapped in the middle of a number.
        flat = flat.replace("\n", " ")
        return _spelled(flat, frame) if _SIX_DIGITS.search(flat) else ()

    return _in_each_notation(text, numbers, by)


def count(text: str) -> int:
    """How many numbers a text has."""
    found: list[str] = []
    replace(text, found.append)
    return len(found)


def replace_all(pattern: re.Pattern[str], text: str, by: Callable[[str], str | None]) -> str:
    """Text with all that matches a pattern in its plain form replaced, as `replace` does."""
    return _in_each_notation(text, lambda flat: (match.span() for match in pattern.finditer(flat)), by)


def _in_each_notation(
    text: str, spans: Callable[[str], Iterable[tuple[int, int]]], by: Callable[[str], str | None]
) -> str:
    """Text with the spans of its plain form replaced: of the one with its notations read, then of the one as it is."""
    # First: a part of a notation may resemble a part of a number.
    if any(mark in text for mark in ENCODING_MARKS) and _ENCODED.search(text):
        places = _read_places(text)
        text = _put(text, spans("".join(char for char, _, _ in places)), by, lambda: places)
    if text.isascii() or len(_digits().findall(text)) >= 6:
        flat = plain(text)
        text = _put(text, spans(flat), by, lambda: [] if flat is text else _plain_places(text))
    return text


def _put(
    text: str, spans: Iterable[tuple[int, int]], by: Callable[[str], str | None], places_of: Callable[[], list[Place]]
) -> str:
    """Text with the spans of its plain form replaced; without places, the text is in plain form."""
    parts, done, places = [], 0, None
    for start, end in spans:
        if places is None:
            places = places_of()
        found = "".join(char for char, _, _ in places[start:end]) or text[start:end]
        new = by(found)
        if new is None:
            continue
        if places:
            start, end = places[start][1], places[end - 1][2]
        parts += [text[done:start], new]
        done = end
    return "".join([*parts, text[done:]]) if parts else text


def _plain_places(text: str) -> list[Place]:
    """The plain form of a text, and where each of its characters comes from."""
    table = _plain_characters()
    return [(flat, place, place + 1) for place, char in enumerate(text) for flat in table.get(ord(char), char)]


def _read_places(text: str) -> list[Place]:
    """The plain form of a text once its notations are read, and where each of its characters comes from."""
    places = [(char, place, place + 1) for place, char in enumerate(text)]
    for _ in range(_NESTED):
        flat, done, read = "".join(char for char, _, _ in places), 0, []
        for match in _ENCODED.finditer(flat):
            start, end = match.span()
            origin = places[start][1], places[end - 1][2]
            read += [*places[done:start], *((char, *origin) for char in _read(match.group()))]
            done = end
        if not read:
            break
        places = read + places[done:]
    table = _plain_characters()
    return [(flat, start, end) for char, start, end in places for flat in table.get(ord(char), char)]


@lru_cache(4096)
def _read(encoded: str) -> str:
    """The characters of one in another notation. Text that is full of them has few different ones."""
    if encoded.startswith("&"):
        return html.unescape(encoded)
    if encoded[1] in "uU":
        codes = [int(code, 16) for code in re.findall(rf"{_H}+", encoded)]
        if len(codes) == 2:
            codes = [0x10000 + (codes[0] - 0xD800 << 10) + codes[1] - 0xDC00]
        return "".join(chr(code) if code < 0x110000 else " " for code in codes)
    if encoded[1].isdigit() and encoded[0] == "\\":
        return chr(int(encoded[1:], 8))
    data = bytes.fromhex(re.sub(r"\\x|[%=]", "", encoded))
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _spelled(flat: str, frame: int) -> Iterator[tuple[int, int]]:
    """Where HKID numbers are in plain text. They do not overlap."""
    place = 0
    while match := _SPELLED.search(flat, place):
        start, end = match.span()
        place = start + 1
        is_right = has_right_check_digit(match.group())
        if match.group(1) is not None:
            # Of letters right before a number only the last may be its own.
            if not is_right and flat[start + 1].isalpha() and has_right_check_digit(flat[start + 1 : end]):
                start += 1
            yield start, end
            place = end
        elif is_right and _touching(flat, start, end) <= frame and not _is_part_of_another(flat, start, end):
            yield start, end
            place = end


def _touching(flat: str, start: int, end: int) -> int:
    """How many letters and digits stand right before and behind a span."""
    before = re.search(r"[A-Za-z0-9]*$", flat[max(0, start - FRAME - 1) : start])
    behind = re.match(r"[A-Za-z0-9]*", flat[end : end + FRAME + 1])
    return sum(len(found.group()) for found in (before, behind) if found)


def _is_part_of_another(flat: str, start: int, end: int) -> bool:
    return any(
        found.start() <= start and end <= found.end() for found in _ANOTHER.finditer(flat, max(0, start - 36), end + 36)
    )


# --- characters -------------------------------------------------------------------------------------------------------


@cache
def _plain_characters() -> dict[int, str]:
    """The plain form of each character that has another one."""
    return {code: flat for code in chain(*_BLOCKS) if (flat := _plain(chr(code))) != chr(code)}


def _plain(char: str) -> str:
    kind = unicodedata.category(char)
    # Format, control and combining characters.
    if kind in ("Cf", "Cc", "Mn", "Mc", "Me") or char in _INVISIBLE_LETTERS:
        return ""
    if (
        flat := _TURNED.get(char)
        or {"Z": " "}.get(kind[0])
        or {"Pd": "-", "Ps": "(", "Pi": "(", "Pe": ")", "Pf": ")"}.get(kind)
    ):
        return flat
    if (digit := unicodedata.digit(char, None)) is not None:
        return str(digit)
    parts = unicodedata.normalize("NFKD", char)
    flat = "".join(part for part in parts if not unicodedata.combining(part)).translate(_LOOK_ALIKES)
    if flat.isascii() and len(re.findall("[A-Za-z0-9]", flat)) <= 1:
        return flat
    if named := _LATIN.fullmatch(unicodedata.name(char, "")):
        return named[2].lower() if named[1] else named[2]
    return "." if kind in _MARKING and char not in _CALCULATING and not any(map(str.isalnum, parts)) else char


@cache
def _digits() -> re.Pattern[str]:
    """A character that is a digit in plain form."""
    codes = (code for code, flat in _plain_characters().items() if re.search("[0-9]", flat))
    return re.compile("[0-9" + "".join(map(chr, codes)) + "]")


@cache
def block_pattern() -> bytes:
    """RE2 pattern, on bytes, of a possible HKID number in CSV lines in UTF-8; each number that `replace` finds matches.

    Group 1 is one without a comma in it, group 2 one that may have commas: only a field in quotes can hold those.
    """
    kinds: dict[str, list[int]] = {"letter": [], "digit": [], "gap": []}
    for code, flat in _plain_characters().items():
        found = re.findall("[A-Za-z0-9]", flat)
        if flat.isascii() and (len(found) == 1 or not found):
            kinds["gap" if not found else "digit" if found[0].isdigit() else "letter"].append(code)
    letter, digit, check = (
        b"(?:%s|%s)" % (narrow, _in_utf8(kinds[kind]))
        for narrow, kind in ((b"[A-Za-z]", "letter"), (b"[0-9]", "digit"), (b"[0-9Aa]", "digit"))
    )
    # A wide letter A is a check digit too.
    check = b"(?:%s|%s)" % (check, _in_utf8(c for c in kinds["letter"] if _plain_characters()[c].strip("().") in "Aa"))

    def number(gap: bytes) -> bytes:
        # Of any length: to count costs the automaton a state for each.
        tag = _TAG.replace("{0,100}", "*").encode()
        gap = b"(?:[%s()<>\\[\\]{}]|%s|%s)*" % (gap, tag, _in_utf8(kinds["gap"]))
        return b'%s{1,2}(?:%s%s){6}%s(?:%s%s)?(?:""%s)?%s' % (
            letter,
            gap,
            digit,
            gap,
            f"(?:{_CALLED}|第)".encode(),
            gap,
            gap,
            check,
        )

    marks = _MARKS.encode()
    return b'(%s)(?:[^0-9]|$)|(?:^|[,\\n])"(?:[^"\\n]|"")*?(%s)(?:[^0-9]|$)' % (number(marks), number(marks + b","))


def _in_utf8(codes: Iterable[int]) -> bytes:
    """Pattern of these characters in UTF-8, for an engine that matches bytes."""
    endings: dict[bytes, list[int]] = {}
    for code in codes:
        *first, last = chr(code).encode()
        endings.setdefault(bytes(first), []).append(last)
    return b"|".join(
        re.escape(first) + b"[" + b"".join(b"\\x%02x" % last for last in last_bytes) + b"]"
        for first, last_bytes in endings.items()
    )
