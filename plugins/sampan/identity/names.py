"""Names of enterprises taken apart: what they are called, what they trade in, and the keys under which they are found.

The rules are the Companies Registry's for "the same name": case, spaces, accents, punctuation, a leading "The" and the
legal form do not count; "and" is "&", Hong Kong is HK, Far East is FE, and characters that are written in several ways
are one. Chinese is compared in simplified characters; the name itself is never changed. Words and their meanings are
the seed `name_words`, groups of names that mean one brand the seed `name_aliases`.
"""

from __future__ import annotations

import csv
import hashlib
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
# Characters of the longest ending in Chinese.
LONGEST = 8

Script = Literal["en", "zh"]


@dataclass(frozen=True)
class Name:
    """One name in one script.

    `same_name` is equal for names that the Companies Registry takes for the same; `brand` is the part that tells one
    firm from another, `trades` what it says of its trade, and `full` both in one spelling. `readings` are the brand in
    Latin letters without spaces (Cantonese and Mandarin readings of Chinese), `alias` the group of names it belongs to.
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
    """The seeds by use. Phrases of English are tuples of tokens, Chinese words are in simplified characters."""

    english: dict[str, dict[tuple[str, ...], str]]
    chinese: dict[str, dict[str, str]]
    variants: dict[int, str]
    aliases: dict[tuple[Script, str], str]
    fingerprint: str


def parse(text: str) -> tuple[Name, ...]:
    """The names in a text: one, or two when it holds a brand in Latin letters beside one in Chinese."""
    return _parse(text, words().fingerprint)


@lru_cache(maxsize=200_000)
def _parse(text: str, _fingerprint: str) -> tuple[Name, ...]:
    folded = unicodedata.normalize("NFKC", text)
    if not HAN.search(folded):
        name = _english(folded)
        return (name,) if name else ()
    latin = " ".join(part for part in HAN.split(_without_places(folded)) if re.search(r"[A-Za-z]{2}", part))
    brand, trades, legal = _chinese_parts("".join(HAN.findall(folded)))
    # Beside a brand in Latin letters Chinese may say the trade alone: TERNQUAY贸易旗舰店.
    english = _english(latin, trades) if latin else None
    chinese = _chinese(brand, trades, legal) if brand else None
    return tuple(name for name in (english, chinese) if name)


def fingerprint() -> str:
    """Changes when a word, an alias or these rules change: then every name has to be taken apart anew."""
    return words().fingerprint


@cache
def _files(folder: Path) -> _Words:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    english: dict[str, dict[tuple[str, ...], str]] = {}
    chinese: dict[str, dict[str, str]] = {}
    variants: dict[int, str] = {}
    rows = _rows(folder / "name_words.csv", digest)
    for row in rows:
        if row["kind"] == "variant":
            variants[ord(row["word"])] = row["meaning"]
    for row in rows:
        if row["kind"] != "variant" and HAN.search(row["word"]):
            chinese.setdefault(row["kind"], {})[_simplified(row["word"], variants)] = row["meaning"]
        elif row["kind"] != "variant":
            english.setdefault(row["kind"], {})[tuple(row["word"].split())] = row["meaning"]
    found = _Words(english, chinese, variants, {}, "")
    aliases: dict[tuple[Script, str], str] = {}
    for row in _rows(folder / "name_aliases.csv", digest):
        text = unicodedata.normalize("NFKC", row["name"])
        script: Script = "zh" if HAN.search(text) else "en"
        brand = _simplified("".join(HAN.findall(text)), variants) if script == "zh" else "".join(_tokens(text))
        aliases[script, brand] = row["alias_group"]
    return _Words(found.english, found.chinese, variants, aliases, digest.hexdigest()[:16])


def words() -> _Words:
    """The seeds, read once for each folder that holds them."""
    return _files(SEEDS)


def _rows(path: Path, digest: Any) -> list[dict[str, str]]:
    digest.update(path.read_bytes())
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- English ----------------------------------------------------------------------------------------------------------


def _tokens(text: str) -> list[str]:
    """Words in lower case without accents; the spellings that the registry takes for one are one."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
    plain = re.sub(r"(?<=\b[a-z])\.(?=[a-z]\b)", "", plain)  # H.K. is one word
    plain = re.sub(r"['`\u2019]", "", plain).replace("&", " and ")
    tokens = re.findall(r"[a-z0-9]+", plain)
    joined = f" {' '.join(tokens)} ".replace(" hong kong ", " hk ").replace(" hongkong ", " hk ")
    joined = joined.replace(" far east ", " fe ").replace(" fareast ", " fe ")
    tokens = joined.split()
    return tokens[1:] if len(tokens) > 1 and tokens[0] == "the" else tokens


def _ends(tokens: list[str], phrases: dict[tuple[str, ...], str]) -> int:
    """How many tokens at the end are one of the phrases; the longest counts."""
    return max((n for n in range(1, min(4, len(tokens)) + 1) if tuple(tokens[-n:]) in phrases), default=0)


def _english(text: str, said_elsewhere: tuple[str, ...] = ()) -> Name | None:
    table = words().english
    places = table["place"] | table["district"]
    # "Kowloon Branch" in brackets says nothing of the firm, "(Hong Kong)" belongs to its legal name.
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
    trades = trades or said_elsewhere
    spelled = "".join(brand)
    alias = words().aliases.get(("en", spelled), "")
    readings = (sounds_like(spelled),)
    full = f"{spelled}+{'+'.join(trades)}" if trades else ""
    keys = {f"e:{token}" for token in brand if len(token) > 1} | {f"e:{spelled}", f"r:{sounds_like(spelled)}"}
    if len(spelled) >= 6:
        # One typing error leaves the first or the last part of a brand as it is.
        keys |= {f"h:{spelled[:5]}", f"t:{spelled[-5:]}"}
    if alias:
        keys.add(f"a:{alias}")
    return Name(
        "en", same_name, spelled, trades, full, readings, "", alias, _english_chance(tuple(brand)), tuple(sorted(keys))
    )


def _starts(tokens: list[str], phrases: dict[tuple[str, ...], str]) -> int:
    return max((n for n in range(1, min(4, len(tokens)) + 1) if tuple(tokens[:n]) in phrases), default=0)


def _english_trades(
    tokens: list[str], trades: dict[tuple[str, ...], str], legal: dict[tuple[str, ...], str]
) -> tuple[list[str], tuple[str, ...]]:
    """The tokens that are the brand, and the trades that the others name; the first token is always brand."""
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
    """Syllables of Cantonese as Hong Kong spells them."""
    return frozenset(sounds_like(spelling) for spelling in _cantonese().romanToChar)


def _english_chance(brand: tuple[str, ...]) -> float:
    """Enterprises not on the register that may be expected to bear the brand by chance: few for coined words, more for
    Cantonese syllables, of which there are six hundred, and for short words."""
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
    """Chinese in simplified characters, variants made one before and after."""
    return _converter("t2s").convert(text.translate(variants)).translate(variants)


def _without_places(text: str) -> str:
    """A text of both scripts without the Latin abbreviations that are no brand, HK above all."""
    return re.sub(r"\b(HK|H\.K\.|Hong ?Kong)\b", "", text, flags=re.IGNORECASE)


def _chinese_parts(text: str) -> tuple[str, tuple[str, ...], str]:
    """Brand (empty when every word is of a kind that any firm may use), trades, and the name without its legal form."""
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
    # Enterprises not on the register that may be expected to bear it by chance.
    chance = {1: 1.0, 2: 0.06, 3: 0.0015}.get(len(brand), 0.001)
    full = f"{brand}+{'+'.join(trades)}" if trades else ""
    return Name("zh", legal, brand, trades, full, sounds, pinyin, alias, chance, tuple(sorted(keys)))


def _cut(text: str, endings: dict[str, str]) -> str:
    """The text without the endings, longest first, as often as they follow each other; never all of it."""
    while (word := _ending(text, endings)) and len(text) > len(word) + (len(word) == 1):
        text = text[: -len(word)]
    return text


def _ending(text: str, endings: dict[str, str]) -> str:
    """The longest of the endings that the text has, or nothing."""
    return next((text[-n:] for n in range(min(LONGEST, len(text)), 0, -1) if text[-n:] in endings), "")


@lru_cache(maxsize=20_000)
def _syllable_readings(character: str) -> tuple[str, ...]:
    traditional = _converter("s2hk").convert(character)
    return tuple(_cantonese().charToRoman.get(traditional) or _cantonese().charToRoman.get(character) or ())


def _readings(brand: str) -> tuple[str, ...]:
    """The brand as Hong Kong would spell it in Latin letters; characters are read in more than one way."""
    parts = [_syllable_readings(character) for character in brand]
    return tuple("".join(choice) for choice in islice(product(*parts), READINGS)) if all(parts) else ()


def _pinyin(brand: str) -> str:
    from pypinyin import lazy_pinyin

    return "".join(lazy_pinyin(brand))


@lru_cache(maxsize=100_000)
def sounds_like(spelled: str) -> str:
    """A spelling without the differences that romanisations of one syllable have: Yick and Yik, Loong and Lung."""
    text = spelled.lower().replace(" ", "")
    for old, new in (
        ("ck", "k"), ("oo", "u"), ("ee", "i"), ("ts", "ch"), ("tz", "ch"), ("gw", "kw"), ("eung", "ung"),
        ("eong", "ung"), ("ea", "i"), ("aa", "a"), ("ar", "a"), ("ue", "u"), ("or", "o"), ("ui", "oy"), ("ey", "i"),
        ("x", "sh"), ("q", "ch"), ("zh", "ch"), ("z", "ch"), ("j", "ch"), ("sh", "s"), ("g", "k"), ("kn", "ng"),
        ("b", "p"), ("d", "t"), ("nk", "ng"), ("y", "i"),
    ):  # fmt: skip
        text = text.replace(old, new)
    return re.sub(r"(.)\1+", r"\1", text)
