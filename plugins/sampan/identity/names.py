"""Parse names of enterprises: into brand, trades, and the keys under which they are found.

The rules are the Companies Registry's for "the same name": case, spaces, accents, punctuation, a leading "The" and the
legal form do not count; "and" equals "&", Hong Kong equals HK, Far East equals FE, and variants of a character are equal.
Chinese is compared in simplified characters; the name itself is never changed. Words and their meanings are in the seed
`name_words`, groups of names of one brand in the seed `name_aliases`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import islice, product
from pathlib import Path
from typing import Any, Literal

from sampan.settings import HOME

SEEDS = HOME / "dbt_project" / "seeds"
HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
READINGS = 4
# Raise it when the code below gives another result for any name: then every name is parsed and linked again. Changes of the
# seeds and of SPELLINGS are noticed without it.
RULES_VERSION = 1
# Spellings of one sound in the romanisations of Cantonese and Mandarin, replaced in this order.
SPELLINGS = (
    ("ck", "k"), ("oo", "u"), ("ee", "i"), ("ts", "ch"), ("tz", "ch"), ("gw", "kw"), ("eung", "ung"), ("eong", "ung"),
    ("ea", "i"), ("aa", "a"), ("ar", "a"), ("ue", "u"), ("or", "o"), ("ui", "oy"), ("ey", "i"), ("x", "sh"), ("q", "ch"),
    ("zh", "ch"), ("z", "ch"), ("j", "ch"), ("sh", "s"), ("g", "k"), ("kn", "ng"), ("b", "p"), ("d", "t"), ("nk", "ng"),
    ("y", "i"),
)  # fmt: skip
# Characters of the longest Chinese ending.
LONGEST = 8

Script = Literal["en", "zh"]
Phrases = dict[tuple[str, ...], str]


@dataclass(frozen=True)
class Name:
    """One name in one script.

    `same_name` is equal for names that the Companies Registry treats as the same; `brand` is the part that distinguishes
    firms, `trades` the trades that it names, and `full` both in one string. `readings` are the brand in Latin letters without
    spaces (Cantonese and Mandarin readings of Chinese), `alias` is its group of names. `chance` is how many enterprises
    not on the register may be expected to have the brand by chance.
    """

    script: Script
    same_name: str
    brand: str
    trades: tuple[str, ...]
    full: str
    readings: tuple[str, ...]
    pinyin: str
    alias: str
    chance: float
    keys: tuple[str, ...]

    def under(self, key: str) -> Name:
        """The name with one more key."""
        return replace(self, keys=tuple(sorted({*self.keys, key})))


@dataclass(frozen=True)
class _Words:
    """The seeds by use. English phrases are tuples of tokens, Chinese words are in simplified characters."""

    english: dict[str, Phrases]
    chinese: dict[str, dict[str, str]]
    variants: dict[int, str]
    aliases: dict[tuple[Script, str], str]
    fingerprint: str


def parse(text: str) -> tuple[Name, ...]:
    """The names in a text: none, one, or two when it has a brand in Latin letters and one in Chinese."""
    return _parse(text, words().fingerprint)


@lru_cache(maxsize=200_000)
def _parse(text: str, _fingerprint: str) -> tuple[Name, ...]:
    folded = unicodedata.normalize("NFKC", text)
    if not HAN.search(folded):
        name = _english(folded)
        return (name,) if name else ()
    latin = " ".join(part for part in HAN.split(_without_places(folded)) if re.search(r"[A-Za-z]{2}", part))
    brand, trades, legal = _chinese_parts("".join(HAN.findall(folded)))
    # After a brand in Latin letters the Chinese part may name only the trade: TERNQUAY贸易旗舰店.
    english = _english(latin, trades) if latin else None
    chinese = _chinese(brand, trades, legal) if brand else None
    return tuple(name for name in (english, chinese) if name)


def fingerprint() -> str:
    """Changes when a word, an alias, SPELLINGS or RULES_VERSION changes: then every name has to be parsed again."""
    return words().fingerprint


@cache
def _read(folder: Path) -> _Words:
    english: dict[str, Phrases] = {}
    chinese: dict[str, dict[str, str]] = {}
    words_of = [(row["word"], row["kind"], row["meaning"]) for row in _rows(folder / "name_words.csv")]
    variants = {ord(word): meaning for word, kind, meaning in words_of if kind == "variant"}
    for word, kind, meaning in words_of:
        if kind != "variant" and HAN.search(word):
            chinese.setdefault(kind, {})[_simplified(word, variants)] = meaning
        elif kind != "variant":
            english.setdefault(kind, {})[tuple(word.split())] = meaning
    named = [(row["name"], row["alias_group"]) for row in _rows(folder / "name_aliases.csv")]
    aliases = {_alias_key(name, variants): alias_group for name, alias_group in named}
    digest = hashlib.sha256(json.dumps([RULES_VERSION, SPELLINGS, words_of, named]).encode()).hexdigest()
    return _Words(english, chinese, variants, aliases, digest[:16])


def _alias_key(name: str, variants: dict[int, str]) -> tuple[Script, str]:
    text = unicodedata.normalize("NFKC", name)
    if HAN.search(text):
        return "zh", _simplified("".join(HAN.findall(text)), variants)
    return "en", "".join(_tokens(text))


def words() -> _Words:
    """The seeds, read once for each folder that holds them."""
    return _read(SEEDS)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- English ----------------------------------------------------------------------------------------------------------


def _tokens(text: str) -> list[str]:
    """Words in lower case without accents, each in one of the spellings that the registry treats as equal."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
    plain = re.sub(r"(?<=\b[a-z])\.(?=[a-z]\b)", "", plain)  # H.K. is one word
    plain = re.sub(r"['`\u2019]", "", plain).replace("&", " and ")
    tokens = re.findall(r"[a-z0-9]+", plain)
    joined = f" {' '.join(tokens)} ".replace(" hong kong ", " hk ").replace(" hongkong ", " hk ")
    joined = joined.replace(" far east ", " fe ").replace(" fareast ", " fe ")
    tokens = joined.split()
    return tokens[1:] if len(tokens) > 1 and tokens[0] == "the" else tokens


def _ends(tokens: list[str], phrases: Phrases) -> int:
    """Length of the longest of the phrases that the tokens end with, in tokens; 0 without one."""
    return max((n for n in range(1, min(4, len(tokens)) + 1) if tuple(tokens[-n:]) in phrases), default=0)


def _english(text: str, other_trades: tuple[str, ...] = ()) -> Name | None:
    table = words().english
    places = table["place"] | table["district"]
    # "(Kowloon Branch)" is not part of the firm's name, "(Hong Kong)" is part of its legal name.
    tokens = _tokens(text)
    legal = list(tokens)
    while len(legal) > 1 and (n := _ends(legal, table["legal"])) and n < len(legal):
        legal = legal[:-n]
    same_name = "".join(legal)
    kept = list(tokens)
    ending = {**table["legal"], **table["branch"], **table["shop"], **places}
    while len(kept) > 1 and (n := _ends(kept, ending)) and n < len(kept):
        kept = kept[:-n]
    while len(kept) > 1 and (n := _starts(kept, table["place"])) and n < len(kept):
        kept = kept[n:]
    brand, trades = _english_trades(kept, {**table["trade"], **dict.fromkeys(table["place"], "")}, table["legal"])
    if not brand:
        return None
    trades = trades or other_trades
    spelled = "".join(brand)
    alias = words().aliases.get(("en", spelled), "")
    readings = (sounds_like(spelled),)
    full = f"{spelled}+{'+'.join(trades)}" if trades else ""
    keys = {f"e:{token}" for token in brand if len(token) > 1} | {f"e:{spelled}", f"r:{sounds_like(spelled)}"}
    if len(spelled) >= 6:
        # One typing error leaves the first or the last part of a brand unchanged.
        keys |= {f"h:{spelled[:5]}", f"t:{spelled[-5:]}"}
    if alias:
        keys.add(f"a:{alias}")
    return Name(
        "en", same_name, spelled, trades, full, readings, "", alias, _english_chance(tuple(brand)), tuple(sorted(keys))
    )


def _starts(tokens: list[str], phrases: Phrases) -> int:
    """Length of the longest of the phrases that the tokens start with, in tokens; 0 without one."""
    return max((n for n in range(1, min(4, len(tokens)) + 1) if tuple(tokens[:n]) in phrases), default=0)


def _english_trades(tokens: list[str], trades: Phrases, legal: Phrases) -> tuple[list[str], tuple[str, ...]]:
    """The tokens of the brand, and the trades that the others name; the first token always belongs to the brand."""
    brand, found, position = tokens[:1], set(), 1
    while position < len(tokens):
        for length in (3, 2, 1):
            phrase = tuple(tokens[position : position + length])
            if len(phrase) == length and phrase in trades:
                found.add(trades[phrase])
                position += length
                break
            if len(phrase) == length and length == 1 and (phrase in legal or phrase == ("and",)):
                position += 1
                break
        else:
            brand.append(tokens[position])
            position += 1
    return brand, tuple(sorted(found - {""}))


@cache
def _syllables() -> frozenset[str]:
    """Cantonese syllables in Hong Kong's spelling."""
    return frozenset(sounds_like(spelling) for spelling in _cantonese().romanToChar)


def _english_chance(brand: tuple[str, ...]) -> float:
    """`Name.chance` of a brand: low for coined words, higher for short words and for Cantonese syllables (there are 600)."""
    chance = 1.0
    for token in brand:
        syllable = sounds_like(token) in _syllables()
        chance *= 0.22 if syllable else 0.2 if len(token) <= 4 else 0.005
    return max(chance, 0.001)


# --- Chinese ----------------------------------------------------------------------------------------------------------


@cache
def _converter(name: str) -> Any:
    import opencc

    return opencc.OpenCC(name)


@cache
def _cantonese() -> Any:
    from cantoroman import Cantonese

    return Cantonese()


def _simplified(text: str, variants: dict[int, str]) -> str:
    """Chinese in simplified characters, with each character's variants replaced by one of them."""
    return str(_converter("t2s").convert(text.translate(variants))).translate(variants)


def _without_places(text: str) -> str:
    """A text of both scripts without HK and Hong Kong, which are not a brand."""
    return re.sub(r"\b(HK|H\.K\.|Hong ?Kong)\b", "", text, flags=re.IGNORECASE)


def _chinese_parts(text: str) -> tuple[str, tuple[str, ...], str]:
    """Brand (empty when all words are generic), trades, and the name without its legal form."""
    table = words().chinese
    folded = _simplified(text, words().variants)
    legal = _cut(folded, table["legal"])
    ending = table["legal"] | table["shop"] | table["branch"]
    places = table["place"] | table["district"]
    if folded in ending:
        return "", (), legal
    kept = _cut(folded, ending)
    for _ in range(3):
        # 尖沙咀分店, (香港), 有限公司 follow each other in any order.
        kept = _cut(_cut(kept, places), ending)
        for place in sorted(table["place"], key=len, reverse=True):
            if kept.startswith(place) and len(kept) > len(place) + 1:
                kept = kept[len(place) :]
    trades: set[str] = set()
    while word := _ending(kept, table["trade"]):
        trades.add(table["trade"][word])
        kept = _cut(kept[: -len(word)], places)
    brand = "" if kept in ending or kept in places else kept
    return brand, tuple(sorted(trades)), legal


def _chinese(brand: str, trades: tuple[str, ...], legal: str) -> Name:
    alias = words().aliases.get(("zh", brand), "")
    pinyin = _pinyin(brand)
    sounds = tuple(dict.fromkeys(sounds_like(reading) for reading in (*_readings(brand), pinyin)))
    keys = {f"z:{brand}", f"p:{pinyin}"} | {f"r:{sound}" for sound in sounds}
    keys |= {f"z:{brand[at : at + 2]}" for at in range(len(brand) - 1)}
    if alias:
        keys.add(f"a:{alias}")
    chance = {1: 1.0, 2: 0.06, 3: 0.0015}.get(len(brand), 0.001)
    full = f"{brand}+{'+'.join(trades)}" if trades else ""
    return Name("zh", legal, brand, trades, full, sounds, pinyin, alias, chance, tuple(sorted(keys)))


def _cut(text: str, endings: dict[str, str]) -> str:
    """The text without the endings, longest first and repeatedly; at least one character is left."""
    while (word := _ending(text, endings)) and len(text) > len(word) + (len(word) == 1):
        text = text[: -len(word)]
    return text


def _ending(text: str, endings: dict[str, str]) -> str:
    """The longest of the endings that the text has; empty without one."""
    return next((text[-n:] for n in range(min(LONGEST, len(text)), 0, -1) if text[-n:] in endings), "")


@lru_cache(maxsize=20_000)
def _syllable_readings(character: str) -> tuple[str, ...]:
    traditional = _converter("s2hk").convert(character)
    return tuple(_cantonese().charToRoman.get(traditional) or _cantonese().charToRoman.get(character) or ())


def _readings(brand: str) -> tuple[str, ...]:
    """The brand in Hong Kong's Latin spelling: up to READINGS, since a character may have several readings."""
    parts = [_syllable_readings(character) for character in brand]
    return tuple("".join(choice) for choice in islice(product(*parts), READINGS)) if all(parts) else ()


def _pinyin(brand: str) -> str:
    from pypinyin import lazy_pinyin

    return "".join(lazy_pinyin(brand))


@lru_cache(maxsize=100_000)
def sounds_like(spelled: str) -> str:
    """One spelling for all romanisations of a sound: Yick and Yik, Loong and Lung."""
    text = spelled.lower().replace(" ", "")
    for old, new in SPELLINGS:
        text = text.replace(old, new)
    return re.sub(r"(.)\1+", r"\1", text)
