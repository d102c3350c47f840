"""The simulated enterprises and individuals with their truth: who they are, what they trade, which schemes they use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from infra.simulator import vocabulary as words
from infra.simulator.draws import dates, digits, joined, number, only, pick, rng, take

USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
USCC_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
# Letters that no HKID number was ever issued under, so that no simulated number is a person's.
HKID_LETTERS = "IOQUX"
# Share of enterprises whose name differs from another's in one character.
TWINS = 0.02
# The funding programmes of the simulated world open.
OPENING = date(2023, 1, 3)
# Share of applicants that hear of the programmes later, and when, so that there are first projects in every year.
LATE_APPLICANTS, LATE_APPLICANTS_FROM = 0.6, (date(2024, 6, 1), date(2026, 2, 1))
# Planted: share of enterprises whose owner has the one before too.
CONNECTED = 0.04


@dataclass(frozen=True)
class Population:
    """`smes`: one row per enterprise. `individuals`: persons who lodge declarations under their HKID number."""

    seed: int
    smes: pl.DataFrame
    individuals: pl.DataFrame


def make(seed: int, smes: int) -> Population:
    """A population of `smes` enterprises (a few per cent of them large), the same for the same seed."""
    return Population(seed, _enterprises(seed, smes), _individuals(seed, max(5, smes // 40)))


def hkids(generator: np.random.Generator, count: int) -> pl.Series:
    """HKID numbers with the right check digit, in brackets as on the card."""
    letters = generator.integers(0, len(HKID_LETTERS), count)
    body = generator.choice(1_000_000, count, replace=count > 1_000_000)
    letter_values = np.array([ord(letter) - 55 for letter in HKID_LETTERS])[letters]
    total = 36 * 9 + letter_values * 8
    for position, weight in enumerate((7, 6, 5, 4, 3, 2)):
        total = total + (body // 10 ** (5 - position)) % 10 * weight
    check = take("0123456789A", -total % 11)
    return joined(take(HKID_LETTERS, letters), digits(body, 6), "(", check, ")")


def usccs(generator: np.random.Generator, count: int) -> pl.Series:
    """Unified social credit codes with the right check character, of a region (99) that does not exist."""
    body = np.concatenate(
        [np.tile([9, 1, 9, 9, 0, 0, 0, 0], (count, 1)), generator.integers(0, len(USCC_ALPHABET), (count, 9))], axis=1
    )
    check = (31 - (body * np.array(USCC_WEIGHTS)).sum(axis=1) % 31) % 31
    columns = [take(USCC_ALPHABET, body[:, position]) for position in range(17)]
    return joined(*columns, take(USCC_ALPHABET, check))


def persons(generator: np.random.Generator, count: int, simplified: bool = False) -> pl.Series:
    """Coined personal names in Chinese."""
    surnames, given = (
        (words.SURNAMES_SIMPLIFIED, words.GIVEN_SIMPLIFIED) if simplified else (words.SURNAMES, words.GIVEN)
    )
    return joined(pick(generator, surnames, count), pick(generator, given, count), pick(generator, given, count))


def phones(generator: np.random.Generator, count: int) -> pl.Series:
    """Telephone numbers of a range that is not in use."""
    return joined(
        "+852 00", digits(generator.integers(0, 100, count), 2), " ", digits(generator.integers(0, 10_000, count), 4)
    )


def _individuals(seed: int, count: int) -> pl.DataFrame:
    generator = rng(seed, "individuals")
    return pl.DataFrame({"hkid": hkids(generator, count), "name": persons(generator, count)})


def _names(
    generator: np.random.Generator, count: int, seed: int, section: np.ndarray, form: np.ndarray
) -> pl.DataFrame:
    """Names in English and Chinese, related in part of the firms only, and the brand in simplified characters."""
    characters = len(words.NAME_CHARACTERS)
    traditional, romanised, simplified = (list(column) for column in zip(*words.NAME_CHARACTERS, strict=True))
    # Steps of a prime through all triples of characters: distinct brands, neighbours that share none or one character.
    triple = (np.arange(count, dtype=np.int64) * 7919 + seed % characters**3) % characters**3
    index = np.stack([triple // characters**2, triple // characters % characters, triple % characters])
    short = generator.random(count) < 0.45
    twin = _twins(seed, count)
    changed = rng(seed, "twins-characters", count).integers(1, characters, count)
    for row in np.flatnonzero(twin):
        index[:, row], short[row] = index[:, row - 1], short[row - 1]
        index[row % 2, row] = (index[row % 2, row] + changed[row]) % characters

    def spelled(table: list[str], gap: str) -> pl.Series:
        third = only(~short, joined(gap, take(table, index[2])), "")
        return joined(take(table, index[0]), gap, take(table, index[1]), third)

    word = np.zeros(count, dtype=np.int64)
    for name in np.unique(section):
        usable = [number for number, entry in enumerate(words.TRADE_WORDS) if name in entry[3]]
        chosen = section == name
        word[chosen] = generator.choice(usable, chosen.sum())
    english_word, chinese_word, _, _ = (list(column) for column in zip(*words.TRADE_WORDS, strict=True))
    coined = _coined(generator, seed, twin)
    related = generator.random(count) < 0.6
    for row in np.flatnonzero(twin):
        word[row], related[row] = word[row - 1], related[row - 1]
    company = np.isin(form, ("company", "non_hong_kong_company"))
    english_end = pick(
        generator,
        [" Limited", " Company Limited", " (Hong Kong) Limited", " (HK) Limited", " Co., Limited"],
        count,
        (50, 25, 15, 5, 5),
    )
    chinese_end = pick(generator, ["有限公司", "(香港)有限公司"], count, (85, 15))
    trade_end = pick(generator, [" Company", " & Co.", ""], count)
    shop_end = pick(generator, ["公司", "行", "號"], count)
    frame = pl.DataFrame(
        {
            "brand_zh": spelled(traditional, ""),
            "brand_romanised": spelled(romanised, " "),
            "brand_simplified": spelled(simplified, ""),
            "coined": coined,
            "related": related,
            "company": company,
            "word_en": take(english_word, word),
            "word_zh": take(chinese_word, word),
            "word_index": word,
            "english_end": english_end,
            "chinese_end": chinese_end,
            "trade_end": trade_end,
            "shop_end": shop_end,
            "kind": generator.random(count),
        }
    )
    brand_en = pl.when("related").then("brand_romanised").otherwise("coined")
    frame = frame.with_columns(
        _refused(pl.concat_str(brand_en, "word_en"), list(words.REGISTRY_WORDS), " ").alias("more_en"),
        _refused(pl.concat_str("brand_zh", "word_zh"), list(words.REGISTRY_WORDS.values()), "").alias("more_zh"),
    )
    end_en = pl.when("company").then("english_end").otherwise("trade_end")
    end_zh = pl.when("company").then("chinese_end").otherwise("shop_end")
    name_en = pl.concat_str(brand_en, pl.lit(" "), "word_en", "more_en", end_en)
    return frame.select(
        brand_en.alias("brand_en"),
        "brand_zh",
        "brand_simplified",
        # One in five has no Chinese name; a few trade names have no English one.
        pl.when((pl.col("kind") < 0.95) | pl.col("company")).then(name_en).alias("name_en"),
        pl.when(pl.col("kind") > 0.20).then(pl.concat_str("brand_zh", "word_zh", "more_zh", end_zh)).alias("name_zh"),
        "word_index",
        pl.col("related").alias("names_related"),
    )  # fmt: skip


def _twins(seed: int, count: int) -> np.ndarray:
    """Which rows take the name of the row before, but for one character."""
    twin = rng(seed, "twins").random(count) < TWINS
    return twin & (np.arange(count) > 0)


def _coined(generator: np.random.Generator, seed: int, twin: np.ndarray) -> pl.Series:
    """English brands that mean nothing in Chinese: a coined word, mostly with another beside it."""
    count, first, second = len(twin), len(words.COINED_FIRST), len(words.COINED_SECOND)
    combination = (np.arange(count, dtype=np.int64) * 1009 + seed % 2400) % (first * second)
    brand = joined(take(words.COINED_FIRST, combination // second), take(words.COINED_SECOND, combination % second))
    beside = joined(" ", pick(generator, [word.capitalize() for word in words.COINED_SECOND], count))
    texts = joined(brand, only(generator.choice(20, count) < 13, beside, "")).to_list()
    for row in np.flatnonzero(twin):
        letter = "aeiou"[row % 5]
        at = next(place for place in range(2, 20) if texts[row - 1][place] != letter)
        texts[row] = texts[row - 1][:at] + letter + texts[row - 1][at + 1 :]
    return pl.Series(texts)


def _refused(name: pl.Expr, more: list[str], gap: str) -> pl.Expr:
    """The word that a company adds when the registry refuses its name, which others have already; empty for the first."""
    others = pl.int_range(pl.len()).over(name)
    word = others.replace_strict({number: gap + text for number, text in enumerate(more, 1)}, default="")
    return pl.when("company").then(word).otherwise(pl.lit(""))


def _enterprises(seed: int, count: int) -> pl.DataFrame:
    generator = rng(seed, "enterprises")
    shares = np.array([entry[2] for entry in words.INDUSTRIES])
    industry = generator.choice(len(words.INDUSTRIES), count, p=shares / shares.sum())
    section = np.array([entry[0] for entry in words.INDUSTRIES])[industry]
    form = generator.choice(
        ["company", "sole_proprietor", "partnership", "non_hong_kong_company"], count, p=[0.74, 0.19, 0.05, 0.02]
    )
    names = _names(generator, count, seed, section, form)
    company = np.isin(form, ("company", "non_hong_kong_company"))
    trades = generator.random(count) < np.array([entry[3] for entry in words.INDUSTRIES])[industry]
    # Entities without a business registration carry a dummy number and do not trade.
    dummy = company & ~trades & (generator.random(count) < 0.02)
    # Numbers from 90000000 on are not in use on the real register.
    serial = generator.permutation(count)
    cr_no = digits(9_000_000 + serial % 1_000_000, 7)
    brn = only(
        dummy,
        joined(take(["C", "F"], (form == "non_hong_kong_company").astype(int)), cr_no),
        digits(90_000_000 + serial * 7 % 10_000_000, 8),
    )
    size = np.clip(generator.lognormal(1.35, 1.15, count), 1, 900).astype(int)
    basis = generator.choice(["declared", "estimated", "unknown"], count, p=[0.45, 0.3, 0.25])
    age = np.clip(generator.exponential(9.0, count), 0.6, 70) * 365
    commenced = number(date(2026, 6, 30)) - age.astype(int)

    volume = np.clip(generator.lognormal(4.65, 1.2, count), 2, 20_000) * np.sqrt(size / 4)
    goods = _goods(generator, names["word_index"].to_numpy(), count)
    export_share = np.array([market[2] for market in words.MARKETS])
    import_share = np.array([market[3] for market in words.MARKETS])
    exports = trades & (generator.random(count) < 0.75)
    imports = trades & (~exports | (generator.random(count) < 0.7))
    shop = (section == "G") & (generator.random(count) < 0.16) | (exports & (generator.random(count) < 0.12))
    shop &= ~dummy
    festival = shop & (generator.random(count) < 0.62)
    chance = np.where(exports, 0.75, np.where(shop, 0.60, 0.07)) * np.where(size > 3, 1.2, 0.7)
    agents = np.flatnonzero((section == "H") & company & ~dummy)
    if not len(agents):
        agents = np.flatnonzero(company & ~dummy)[:1]
    agent = np.where(generator.random(count) < 0.72, generator.choice(agents, count), -1)
    agent_brn = brn.gather(pl.Series(np.maximum(agent, 0)))
    return pl.DataFrame(
        {
            "sme_no": np.arange(count, dtype=np.int64),
            "brn": brn,
            "name_en": names["name_en"],
            "name_zh": names["name_zh"],
            "brand_en": names["brand_en"],
            "brand_zh": names["brand_zh"],
            "brand_simplified": names["brand_simplified"],
            "names_related": names["names_related"],
            "trade_word_no": names["word_index"],
            "legal_form": form,
            "cr_no": only(company, cr_no),
            "owner_name": only(~company, persons(generator, count)),
            "commenced_on": dates(commenced),
            "industry_section": section,
            "hsic_code": np.array([entry[1] for entry in words.INDUSTRIES])[industry],
            "persons_engaged": size,
            "size_basis": basis,
            "size_class": np.where(
                size < 10,
                "micro",
                np.where(size < 50, "small", np.where((section == "C") & (size < 100), "medium", "large")),
            ),
            "district": pick(generator, words.DISTRICTS, count),
            "exports_a_year": np.where(exports, volume * 0.5, 0.0),
            "imports_a_year": np.where(imports, volume * 0.5, 0.0),
            "good_1": goods[0],
            "good_2": goods[1],
            "good_3": goods[2],
            "market_1": generator.choice(len(export_share), count, p=export_share / export_share.sum()),
            "market_2": generator.choice(len(export_share), count, p=export_share / export_share.sum()),
            "supplier": generator.choice(len(import_share), count, p=import_share / import_share.sum()),
            "agent_brn": only(agent >= 0, agent_brn),
            "has_shop": shop,
            "in_festival": festival,
            "shops": np.where(shop, 1 + (generator.random(count) < 0.4), 0),
            "orders_a_day": np.where(shop, np.clip(generator.lognormal(1.0, 0.9, count), 0.3, 120), 0.0),
            "is_applicant": ~dummy & (generator.random(count) < chance),
            "applies_from": _applies_from(seed, count),
            "is_insured": exports & (generator.random(count) < 0.28),
            "mark_code": only(
                (shop | exports) & (generator.random(count) < 0.2),
                joined(pick(generator, words.MARKS, count), "-", digits(generator.integers(0, 100_000, count), 5)),
            ),
            "operator_uscc": usccs(generator, count),
            # Enterprises of one owner, which no feed tells.
            "owner_group_no": _groups(seed, count),
        }
    )


def _groups(seed: int, count: int) -> np.ndarray:
    """Number of the owner's group of each enterprise: its own, or for a few that of the enterprise before."""
    own = np.arange(count)
    connected = (rng(seed, "groups").random(count) < CONNECTED) & (own > 0)
    groups: np.ndarray = np.where(connected, own - 1, own)
    return groups


def _applies_from(seed: int, count: int) -> pl.Series:
    """The day from which on an applicant may apply: that of the opening, or for many one of the years after it."""
    generator = rng(seed, "applies from")
    first, last = (number(day) for day in LATE_APPLICANTS_FROM)
    late = generator.random(count) < LATE_APPLICANTS
    return dates(np.where(late, generator.integers(first, last, count), number(OPENING)))


def _goods(generator: np.random.Generator, word: np.ndarray, count: int) -> np.ndarray:
    """Three goods per enterprise, near each other in the list, that is of a kind."""
    ordinary = len(words.GOODS) - 1
    first = generator.integers(0, ordinary, count)
    second = np.clip(first + generator.integers(-2, 3, count), 0, ordinary - 1)
    third = np.clip(first + generator.integers(-4, 5, count), 0, ordinary - 1)
    gold = (np.array([entry[0] for entry in words.TRADE_WORDS])[word] == "Jewellery") & (generator.random(count) < 0.15)
    return np.stack([np.where(gold, ordinary, first), second, third])
