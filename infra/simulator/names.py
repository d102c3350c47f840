"""Names as the field writes them: shops in simplified characters, abbreviations, branches, brands, typing errors.

Every name comes with what was done to it, so that the truth knows which names a reader can trace to their enterprise.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from infra.simulator import vocabulary as words

SIMPLIFIED = {traditional: simplified for traditional, _, simplified in words.NAME_CHARACTERS}
TRADITIONAL_WORDS = {entry[1]: entry[2] for entry in words.TRADE_WORDS}
# Characters that a keyboard offers for the same sound; none is part of a coined brand.
MISTYPED = {
    "恒": "衡", "丰": "峰", "昌": "倡", "荣": "容", "兴": "星", "隆": "龙", "泰": "太", "裕": "玉", "盛": "圣",
    "福": "富", "祥": "翔", "瑞": "锐", "华": "桦", "达": "答", "亿": "益", "康": "慷", "宝": "保", "锦": "紧",
    "鸿": "弘", "永": "勇", "信": "芯", "义": "谊", "顺": "舜", "宁": "咛", "嘉": "佳", "乐": "勒", "德": "得",
    "胜": "剩", "伟": "玮", "业": "页", "辉": "晖", "东": "冬",
}  # fmt: skip
ABBREVIATED = {
    "Trading": "Trdg", "International": "Int'l", "Industrial": "Ind.", "Electronics": "Elec.", "Garments": "Gmts",
    "Jewellery": "Jewelry", "Cosmetics": "Cosm.", "Plastics": "Plastic", "Technology": "Tech", "Logistics": "Logs.",
    "Freight": "Frt", "Engineering": "Eng", "Consultants": "Consulting", "Properties": "Property",
    "Pharmaceutical": "Pharm.", "Services": "Svcs",
}  # fmt: skip
LEGAL_FORMS = ("Ltd", "Ltd.", "Co Ltd", "Co., Ltd.", "CO LTD", "Limited", "Company Limited", "(HK) Ltd", "HK", "")
BRANCHES = (("TST Branch", "尖沙咀分店"), ("Kwun Tong Branch", "觀塘分店"), ("Mong Kok Shop", "旺角門市"))
# Characters of brands that are registered under no company name.
BRAND_CHARACTERS = "芷晴梓朗曦玥沛霖筱桐懿婕旻妍羽彤"
# Share of names that are typed wrongly, and of shops that bear a brand unlike their company's name.
TYPING_ERRORS, OWN_BRANDS = 0.015, 0.03
SHOPS = {"shop_name": pl.String, "name_script": pl.String, "name_corruption": pl.String}


def simplified(text: str) -> str:
    """A coined name in simplified characters."""
    for traditional, other in TRADITIONAL_WORDS.items():
        text = text.replace(traditional, other)
    text = "".join(SIMPLIFIED.get(character, character) for character in text)
    return text.replace("號", "号").replace("觀塘", "观塘").replace("門市", "门市")


def mistyped(generator: np.random.Generator, text: str) -> str:
    """The text with one typing error: a character of the same sound, or a letter doubled, left out or swapped."""
    places = [at for at, character in enumerate(text[:4]) if character in MISTYPED]
    if places:
        at = places[generator.integers(len(places))]
        return text[:at] + MISTYPED[text[at]] + text[at + 1 :]
    if len(text) < 6 or not text[:6].isascii():
        return text
    at = int(generator.integers(2, 5))
    kind = generator.integers(3)
    if kind == 0:
        return text[:at] + text[at] + text[at:]
    if kind == 1:
        return text[:at] + text[at + 1 :]
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def shop_names(generator: np.random.Generator, owners: pl.DataFrame) -> pl.DataFrame:
    """Name, script and corruption of one shop for each row of `owners` (rows of the population's enterprises)."""
    return pl.DataFrame([_shop(generator, row) for row in owners.iter_rows(named=True)], schema=SHOPS, orient="row")


def _shop(generator: np.random.Generator, owner: dict[str, object]) -> tuple[str, str, str]:
    done: list[str] = []
    draw = generator.random(8)
    suffix = words.SHOP_SUFFIXES[generator.integers(len(words.SHOP_SUFFIXES))]
    word = words.TRADE_WORDS[owner["trade_word_no"]][2]  # type: ignore[index]
    if draw[0] < 0.04:
        word = words.TRADE_WORDS[generator.integers(12)][2]
        done.append("another_trade")
    if draw[1] < OWN_BRANDS:
        brand = "".join(BRAND_CHARACTERS[at] for at in generator.integers(len(BRAND_CHARACTERS), size=3))
        return brand + suffix, "zh", "own_brand"
    # A firm without a Chinese name often sells under its English one, a coined one above all.
    latin = 0.0 if owner["names_related"] else 0.7 if owner["name_zh"] is None else 0.12
    if draw[2] < latin and owner["name_en"]:
        brand = str(owner["brand_en"])
        brand = brand.upper() if draw[3] < 0.5 else brand
        return brand + (word if draw[4] < 0.5 else "") + suffix, "en", ";".join([*done, "latin_brand"])
    brand = str(owner["brand_simplified"])
    # Platforms want names of shops to be distinct: short brands are seldom free without a word beside them.
    carries_word = draw[4] < (0.95 if len(brand) < 3 else 0.5)
    if draw[5] < 0.06 and owner["name_zh"]:
        name = simplified(str(owner["name_zh"]))
        done.append("legal_name")
    else:
        name = brand + (word if carries_word else "") + suffix
        done += [] if carries_word else ["brand_only"]
    if draw[5] > 0.92:
        name = "香港" + name
        done.append("hk")
    if draw[6] < 0.03:
        name += simplified(BRANCHES[generator.integers(len(BRANCHES))][1])
        done.append("branch")
    if draw[7] < TYPING_ERRORS:
        wrong = mistyped(generator, name)
        done += ["typing_error"] if wrong != name else []
        name = wrong
    elif draw[7] > 0.96:
        name = name.replace(brand, str(owner["brand_zh"]))
        done.append("traditional")
    return name, "zh", ";".join(done)


def written(generator: np.random.Generator, owner: dict[str, object], script: str) -> tuple[str, str]:
    """The company's name in a script as somebody wrote it into a form, and what was done to it."""
    return _english(generator, owner) if script == "en" else _chinese(generator, owner)


def in_forms(generator: np.random.Generator, owners: pl.DataFrame) -> pl.Series:
    """The name of each enterprise as it was written into a form, in English where it has an English one."""
    rows = owners.iter_rows(named=True)
    return pl.Series(
        [written(generator, owner, "en" if owner["name_en"] else "zh")[0] for owner in rows], dtype=pl.String
    )


def _english(generator: np.random.Generator, owner: dict[str, object]) -> tuple[str, str]:
    done: list[str] = []
    draw = generator.random(7)
    brand, word = str(owner["brand_en"]), words.TRADE_WORDS[owner["trade_word_no"]][0]  # type: ignore[index]
    name = str(owner["name_en"])
    if draw[0] < 0.75:
        short = ABBREVIATED.get(word, word) if draw[1] < 0.35 else word
        extra = name[len(brand) + len(word) + 2 :].split(" ")[0]
        extra = f" {extra}" if extra in words.REGISTRY_WORDS else ""
        form = LEGAL_FORMS[generator.integers(len(LEGAL_FORMS))]
        name = f"{brand} {short}{extra} {form}".strip()
        done += ["abbreviation"] if short != word else []
        done.append("legal_form")
    if draw[2] < 0.05 and len(brand) > 12:
        name = brand
        done.append("brand_only")
    if draw[3] < 0.03:
        name += f" ({BRANCHES[generator.integers(len(BRANCHES))][0]})"
        done.append("branch")
    if draw[4] < TYPING_ERRORS:
        wrong = mistyped(generator, name)
        done += ["typing_error"] if wrong != name else []
        name = wrong
    if draw[5] < 0.4:
        name = name.upper() if draw[6] < 0.8 else name.lower()
        done.append("case")
    return name, ";".join(done)


def _chinese(generator: np.random.Generator, owner: dict[str, object]) -> tuple[str, str]:
    done: list[str] = []
    draw = generator.random(6)
    name = str(owner["name_zh"])
    if draw[0] < 0.4:
        name = name.removesuffix("(香港)有限公司").removesuffix("有限公司")
        done.append("legal_form")
    if draw[1] < 0.1:
        name = "香港" + name
        done.append("hk")
    if draw[2] < 0.04:
        name += BRANCHES[generator.integers(len(BRANCHES))][1]
        done.append("branch")
    if draw[3] < 0.6:
        name = simplified(name)
        done.append("simplified")
    elif draw[3] > 0.9:
        other = name.replace("恒", "恆").replace("峯", "峰").replace("滙", "匯").replace("衞", "衛")
        done += ["variant"] if other != name else []
        name = other
    if draw[4] < TYPING_ERRORS:
        wrong = mistyped(generator, name)
        done += ["typing_error"] if wrong != name else []
        name = wrong
    return name, ";".join(done)
