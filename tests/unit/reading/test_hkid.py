"""The spellings of an HKID number: each is found in any text, and innocent text is left alone."""

from __future__ import annotations

import json
import random
import re
import string
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from urllib.parse import quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sampan.contracts.values import PSEUDONYM
from sampan.reading import hkid
from sampan.reading.record import csv_line
from sampan.reading.sieve import ENCODINGS

from tests import factory
from tests.unit.reading.deliveries import PRIVATE, column, csv_contract, in_blocks, one_by_one

BOLD = {ord(char): chr(0x1D7CE + int(char)) for char in string.digits}
# As the security review wrote the specimen of the Immigration Department, A123456(3), and ways like them.
REVIEWED = [
    "A123 456(3)", "A12 34 56 (3)", "A123456  (3)", "A123\t456(3)", "A123\u2009456(3)", "A123\u200b456(3)",
    "A123\u00ad456(3)", "A123456\u2013(3)", "A123456/3", "A123456[3]", "A123456\u30103\u3011", "A123456\ufe593\ufe5a",
    "A123456( 3 )", "\u0410123456(3)", "A123456(3)".translate(BOLD), "xA1234563", "A1234563x", "A123,456(3)",
    "A\u202e123456(3)", "A123456{3}", "A-123-456-3", "A.123.456.3", "A 123 456 3", "A123+456+3", "\U0001f130123456(3)",
    "\U0001f170123456(3)", "\u24b61234563", "\uff21\uff11\uff12\uff13\uff14\uff15\uff16\uff0f\uff13",
    "\u0391123456\uff083\uff09",
    "A\u0661\u0662\u0663\u0664\u0665\u0666(\u0663)", "A\ufe0f123456(3)", "A1\u03012345 6(3)", "A\x01123456(3)",
    "HKIDA1234563",
    "A123456%283%29", "A123456+%283%29", "%41%31%32%33%34%35%36%28%33%29", "A123456%25283%2529", "A123456%u00283%u0029",
    "A123456%EF%BC%883%ef%bc%89", "A123456%26lpar%3B3)", "%F0%9F%84%B0123456(3)", "A%C2%AD123456(3)", "A%AD123456(3)",
    "A123456&#40;3&#41;", "A123456&#x28;3&#X29;", "A123456&lpar;3&rpar;", "A123456&nbsp(3)", "&#65;123456&amp;#40;3)",
    "A123456&zwnj;(3)", "A123456=283=29", r"A123456\u00283\u0029", r"\ud83c\udd30123456(3)", r"A123456\x283\x29",
    r"A123456\0503\051", r"\u{41}123456(3)", r"\U00000041123456(3)",
    "A123456          (3)", "A123456;3", "A123456|3", "*A123456*(3)", "`A123456`(3)", "'A123456'(3)", "A!123!456(3)",
    "A123456<b>(3)</b>", "A<b>123456</b>(3)", "A123456<br/>3", "A123456 check digit 3", "A123456 (check digit: 3)",
    '<td>A123456</td><td align="right">3</td>', "A123456<span id=i9>(3)</span>", "A123456<br class='x'>3",
    "A123456\u6821\u9a8c\u7801\uff1a3", "A123456\u62ec\u53f73", "A123456, Check Digit (3)", "A123456 bracket 3 bracket",
    "A123456\uff08\u6821\u9a57\u78bc\uff1a3\uff09", "A123456\u62ec\u865f3", "A123456(\u7b2c3\u865f)",
    "A123456\uff08\u7b2c3\u865f\uff09",
    'A123456"3"', 'A123456 "3"', '"A123456"(3)', '"A123456" [3]', "A123456\u201c3\u201d", "A123456\u30023", "A123456\uff613",
    "A123456#3", "A123456 # 3", "A123456?3?", "A?123456?3", "A123456\u30013", "A123456\u21923", "A123456\u203b3",
    "A123456\ufd3e3\ufd3f",
    "A123456\u301c3", "A\u2060123456(3)", "A123456(3", "A123456\n(3)", "A123\r\n456(3)", "A123\r456(3)",
]  # fmt: skip
TEXTS = ["{}", "of {} by hand", "men's shirts, {}; 12 pcs", "港{}號", "no.{}", "\u200b{}\u200b"]


def hides(cleaned: str) -> bool:
    """Whether a cleaned text shows nothing of the specimen, in any spelling."""
    rest = hkid.letters_and_digits(PSEUDONYM.sub(" ", cleaned).replace("12 pcs", ""))
    return bool(PSEUDONYM.search(cleaned)) and not re.search("[0-9]", rest)


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("spelling", REVIEWED)
def test_a_number_is_replaced_in_any_text_when_it_is_spelt_as_the_review_did(spelling, form):
    """A number that a pattern of one spelling misses stays in clear (M2)."""
    text = form.replace("{}", spelling)
    for cleaned in (PRIVATE.clean(column("a"), text), PRIVATE.clean(None, text), PRIVATE.clean_text(text)):
        assert PRIVATE("A1234563") in cleaned
        assert hides(cleaned)


# Not found, on purpose: who spells a number so that no program reads it may always find another way, and each wider form
# takes one in eleven of the innocent texts that have it, too.
NOT_FOUND = {
    "Chinese numerals": "A\u4e00\u4e8c\u4e09\u56db\u4e94\u516d(\u4e09)",
    "a check digit in Chinese": "A123456(\u4e09)",
    "words": "A one two three four five six three",
    "O for 0": "AO12345(6)",
    "Base64": "QTEyMzQ1NigzKQ==",
    "the check digit in other words": "A123456 and then 3",
    "a number as a program writes a large one": "A123456e3",
    "a check digit of two digits": "A123456 03",
    "the letter behind": "123456(3) A",
    "marks of an address": "id=A123456=3",
    "marks of an amount": "HK$1234563",
    "the value of a part": "A123456=3",
    "the next parameter of an address": "?item=A123456&3",
    "the price of a part": "A123456 @ 3",
    "the price of a part, with its currency": "A123456 $3",
    "a factor": "A123456 \u00d7 3",
}


@pytest.mark.parametrize("way", list(NOT_FOUND))
def test_what_is_not_found_is_known(way):
    """docs/security.md says so. Where a column expects a number, none of it is kept."""
    assert PRIVATE.clean(column("a"), NOT_FOUND[way]) == NOT_FOUND[way]


def test_any_mark_of_unicode_may_stand_between_the_parts():
    """A list of marks lacks the next one that somebody has on a keyboard, such as a box-drawing line in place of a dash."""
    kinds = ("Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sk", "Sm", "So")
    every = [chr(code) for block in hkid._BLOCKS for code in block]
    marks = [
        char for char in every
        if unicodedata.category(char) in kinds and char not in hkid._CALCULATING
        and not re.search(r"[\w$%&=@]", unicodedata.normalize("NFKD", char) + hkid.plain(char))
    ]  # fmt: skip
    assert len(marks) > 4000
    for form in ("A123456{}3", "A{}123456(3)", "A123{}456(3)"):
        missed = [char for char in marks if not hides(PRIVATE.clean(column("a"), form.format(char)))]
        # A number in quotes has a quote on both sides.
        assert [char for char in missed if hkid.plain(char) != '"'] == []
    for char in "\u2500\u30fc\uff70\u2236\u2032\u2605\u00b0\u2020\ufffd":
        assert hides(PRIVATE.clean(None, f"A123456{char}3")), char


def look_alikes() -> dict[str, list[str]]:
    """Characters by the letter or digit that they are in plain form."""
    found: dict[str, list[str]] = {char: [char] for char in string.ascii_letters + string.digits}
    for code, flat in hkid._plain_characters().items():
        if flat in found:
            found[flat].append(chr(code))
    return found


ALIKE = look_alikes()
GAPS = ["", "", "", "", " ", "  ", "\t", "-", "/", ".", "_", ",", "\u2009", "\u200b", "\u00ad", "\u2013", "\u3000", "\u202e",
        "\x01", "\ufe0f", " - ", ";", "'", "*", "#", "?", "\u3001", " " * 12, "<br>", "</b> ", '<i a="1, 2">']  # fmt: skip
BRACKETS = [("", "")] * 3 + [("(", ")"), ("[", "]"), ("{", "}"), ("\u3010", "\u3011"), ("\ufe59", "\ufe5a"),
            ("\uff08", "\uff09"), (" ( ", " )"), ("\u27e8", "\u27e9"), ("<", ">"), ("/", ""), ("(", ""),
            ('"', '"'), ('" (', ")")]  # fmt: skip


NOTATIONS: list[Callable[[str], str]] = [
    quote_plus,
    lambda char: "".join(f"%{byte:02X}" for byte in char.encode()),
    lambda char: "".join(f"%25{byte:02x}" for byte in char.encode()),
    lambda char: char if re.fullmatch("[0-9A-Za-z\x01]", char) else "".join(f"={byte:02X}" for byte in char.encode()),
    lambda char: "".join(f"\\x{byte:02x}" for byte in char.encode()),
    lambda char: f"&#{ord(char)};",
    lambda char: f"&amp;#x{ord(char):x};",
    lambda char: json.dumps(char)[1:-1] if ord(char) > 127 else f"\\u{ord(char):04x}",
    lambda char: f"\\u{{{ord(char):x}}}",
    lambda char: f"%u{ord(char):04X}" if ord(char) < 0x10000 else char,
]


@st.composite
def spellings(draw) -> tuple[str, str]:
    """Letters and digits of a number with the right check digit, and one of its spellings."""
    letters, digits = draw(st.from_regex("[A-Z]{1,2}", fullmatch=True)), draw(st.from_regex("[0-9]{6}", fullmatch=True))
    number = factory.hkid(letters, digits, brackets=False)
    drawn = number if draw(st.booleans()) else number.lower()
    if draw(st.booleans()):
        drawn = "".join(draw(st.sampled_from(ALIKE[char])) for char in drawn)
    # A gap behind the letters makes them a word; one between them would make them two.
    parts = [drawn[: len(letters)], *drawn[len(letters) : -1]]
    opening, closing = draw(st.sampled_from(BRACKETS))
    text = parts[0] + "".join(draw(st.sampled_from(GAPS)) + part for part in parts[1:])
    spelt = f"{text}{opening}{drawn[-1]}{closing}"
    if draw(st.booleans()) and not is_amount(spelt):
        notation = draw(st.sampled_from(NOTATIONS))
        spelt = "".join(notation(char) if draw(st.booleans()) else char for char in spelt)
    return number, spelt


def is_amount(text: str) -> bool:
    """Whether the digits are grouped by thousands, as an amount with its currency is."""
    return bool(re.search(r"[0-9],[0-9]{3},[0-9]{3}", hkid.plain(text)))


@given(spellings(), st.sampled_from(["{}", "of {} by hand", "港{}號", "({})", "id:{};", "HS 610910: {}"]))
@example(("A1234563", "\U0001f170\u0661 \u0662\u200b3\u2013456 ( 3 )"), "x {} y")
def test_every_spelling_is_found_and_nothing_of_it_is_left(spelling, form):
    """Any other way to write a number than those that somebody thought of (M2)."""
    number, text = spelling
    if is_amount(text):
        return
    cleaned = PRIVATE.clean(column("a"), form.replace("{}", text))
    assert PRIVATE(number) in cleaned
    rest = "".join(char for char, _, _ in hkid._read_places(PSEUDONYM.sub(" ", cleaned)))
    assert not re.search("[0-9]", hkid.letters_and_digits(rest).replace("610910", ""))
    assert PRIVATE.clean(column("a"), cleaned) == cleaned


@given(
    st.lists(
        st.tuples(spellings(), st.sampled_from(["{}", "of {}, 12", 'TV 15" {}', "12,{},3", "now {}"])), min_size=1
    ),
    st.sampled_from(["\n", "\r\n"]),
)
def test_blocks_replace_the_same_in_any_spelling(numbers, end):
    """What the automaton over bytes does not see, the exact search never looks at (M2)."""
    contract = csv_contract([column("a", required=True), column("b"), column("c")])
    rows = [["1", form.replace("{}", text), text] for (_, text), form in numbers]
    body = "a,b,c" + end + "".join(csv_line(row) + end for row in rows)
    found = one_by_one(contract, body.encode())
    assert in_blocks(contract, body.encode()) == found
    for row, ((number, text), _), (_, fields, _) in zip(rows, numbers, found, strict=True):
        assert fields == [PRIVATE.clean(column("c"), value) for value in row]
        assert is_amount(text) or PRIVATE(number) in fields[2]


def innocent(chance: random.Random) -> dict[str, Callable[[], str]]:
    """Makers of text without an HKID number, by kind."""

    def drawn(shape: str) -> str:
        made = {"9": string.digits, "A": string.ascii_uppercase, "f": "0123456789abcdef"}
        return "".join(chance.choice(made.get(char, char)) for char in shape)

    return {
        "registration number": lambda: drawn("BRN 99999999-000"),
        "harmonised code": lambda: drawn("HS 9999.99.99, 999999"),
        "date": lambda: f"on {chance.randrange(2020, 2030)}-{drawn('99-99')} at {drawn('99:99')}",
        "telephone number": lambda: drawn("tel. +852 9999 9999"),
        "amount": lambda: drawn("HKD 9,999,999.99 and US$999,999.99"),
        "container": lambda: drawn("container AAAU9999999"),
        "air waybill": lambda: drawn("AWB 999-9999 9999"),
        "invoice number": lambda: drawn("INV-2026-999999"),
        "hash": lambda: drawn("f" * 64),
        "identifier by UUID": lambda: drawn("ffffffff-ffff-4fff-8fff-ffffffffffff"),
        "unified social credit code": lambda: drawn("9144030099999999AA"),
        "parameters of an address": lambda: drawn("?item=999999999&amp;name=AA%20AAA%2C9999&id=99999999"),
        "shares": lambda: drawn("9% of HKD 9,999,999, R&D 99% =999999"),
        "part number of the same form": lambda: drawn("part A9999999"),
    }


def test_innocent_text_is_left_alone():
    """What the price of the broad grammar is: of what has the very form of a number, one in eleven (measured: 9.1%)."""
    chance, tried = random.Random(8), 4000
    rate = {
        kind: sum(PRIVATE.clean(column("a"), text) != text for text in (make() for _ in range(tried))) / tried
        for kind, make in innocent(chance).items()
    }
    print("share of innocent texts that are changed:", rate)
    assert 0.07 < rate.pop("part number of the same form") < 0.11
    assert rate == dict.fromkeys(rate, 0)


WRITTEN = (
    "A123456\uff083\uff09", "\uff21\uff11\uff12\uff13\uff14\uff15\uff16\uff08\uff13\uff09", "A123456\u2013(3)",
    "\u2013A123456(3)", "A123456\u300c3\u300d", "\u9673\u5927\u6587A123456\uff083\uff09\u5148\u751f", "A123456\u30013",
    "A123456\u20193", "A123456\xb73",
)  # fmt: skip


@pytest.mark.parametrize("read_as", ENCODINGS[:3])
@pytest.mark.parametrize("written_in", ENCODINGS)
def test_a_number_is_found_when_its_line_is_in_another_encoding_than_the_contract_says(written_in, read_as):
    """Its brackets and digits of full width are other characters there, or escapes.

    Office programs save in Big5 or the code page of Windows: quarantine kept such lines with the number in clear.
    """
    contract = csv_contract([column("a", required=True), column("b"), column("c")])
    contract = replace(contract, source=replace(contract.source, encoding=read_as))
    for text in WRITTEN:
        with suppress(UnicodeEncodeError):
            body = b"a,b,c\n1," + text.encode(written_in) + b",x\n"
            ((_, fields, broken),) = one_by_one(contract, body)
            assert in_blocks(contract, body) == one_by_one(contract, body)
            if not broken and written_in not in ("utf-8", read_as) and PRIVATE("A1234563") not in fields[1]:
                # Sound text of the contract's encoding, in which nothing looks like a number.
                continue
            assert PRIVATE("A1234563") in fields[1], (text, fields)
            assert "123456" not in hkid.letters_and_digits(PSEUDONYM.sub("", fields[1]))
            assert not (broken and written_in == read_as)


# First and second bytes of the ideographs in daily use.
DAILY = {"gb18030": (range(0xB0, 0xD7), range(0xA1, 0xFF)), "big5hkscs": (range(0xA4, 0xC6), range(0x40, 0x7F))}


@pytest.mark.parametrize("encoding", DAILY)
def test_sound_text_of_the_contracts_encoding_is_read_as_that_alone(encoding):
    """Kind of fault: in the code page of Windows the name behind an item's number began with its check digit, `A`."""
    contract = csv_contract([column("a", required=True), column("b"), column("c")])
    contract = replace(contract, source=replace(contract.source, encoding=encoding))
    chance, (first, second) = random.Random(9), DAILY[encoding]
    names = [bytes(chance.choice(part) for part in (first, second) * 3).decode(encoding) for _ in range(3000)]
    lines = [f"{n},DG{100_000 + n},{name}" for n, name in enumerate(names)]
    found = one_by_one(contract, ("a,b,c\n" + "\n".join(lines) + "\n").encode(encoding))
    assert [(",".join(map(str, fields)), broken) for _, fields, broken in found] == [(line, []) for line in lines]


def test_an_amount_is_no_number_when_a_currency_stands_before_it():
    for amount in ("HKD 1,234,567", "RM1,000,008", "A1,234,563"):
        assert PRIVATE.clean(column("a"), amount) == amount


def test_plain_form_covers_what_unicode_calls_a_digit_or_a_latin_letter():
    table = hkid._plain_characters()
    digits = [chr(code) for code in range(0x80, 0x110000) if unicodedata.category(chr(code)) == "Nd"]
    assert len(digits) > 600
    assert all(table[ord(char)] == str(unicodedata.digit(char)) for char in digits)
    wide = [chr(code) for block in (range(0xFF21, 0xFF3B), range(0x1D400, 0x1D41A)) for code in block]
    assert "".join(table[ord(char)] for char in wide) == string.ascii_uppercase * 2
