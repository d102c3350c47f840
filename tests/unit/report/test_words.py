"""Numbers and names as a reader expects them; right values are worked by hand."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from sampan.report.words import Words, joined, raw, unit_of

NAMES = {
    "market_iso2_code": {"CN": ("The mainland of China", "中國內地")},
    "hs_chapter": {"85": ("Electrical machinery", "電機"), "*": ("All", "合計")},
    "platform": {"tmall": ("Tmall", "天貓")},
    "customs_regime": {"9610": ("E-commerce direct mail", "跨境貿易電子商務")},
    "sme_class": {"micro": ("Micro", "微型")},
}
EN, ZH = Words("en", NAMES), Words("zh", NAMES)


@pytest.mark.parametrize(
    ("amount", "english", "chinese"),
    [
        (Decimal("1234567890.12"), "HK$1.23 billion", "12.3億港元"),
        (Decimal("12345678"), "HK$12.3 million", "1,235萬港元"),
        (Decimal("-250000000"), "−HK$250 million", "−2.5億港元"),
        (Decimal("9876.5"), "HK$9,876", "9,876港元"),
        (Decimal(0), "HK$0", "0港元"),
        (None, "not shown", "不予顯示"),
    ],
)
def test_money_in_words(amount, english, chinese):
    assert (EN.money(amount), ZH.money(amount)) == (english, chinese)


@pytest.mark.parametrize(
    ("column", "value", "english", "chinese"),
    [
        ("value_hkd", Decimal("1234567.89"), "1,234,568", "1,234,568"),
        ("late_share", Decimal("0.1234"), "12.3", "12.3"),
        ("average_market_hhi", Decimal("0.4567"), "0.457", "0.457"),
        ("movement_month", date(2026, 7, 1), "2026-07", "2026-07"),
        ("year", Decimal(2026), "2026", "2026"),
        ("window_months", 12, "12 months", "12個月"),
        ("is_ytd_whole", True, "yes", "是"),
        ("market_iso2_code", "CN", "The mainland of China", "中國內地"),
        ("top_market_iso2_code", "CN", "The mainland of China", "中國內地"),
        ("market_iso2_code", "XQ", "XQ", "XQ"),
        ("hs_chapter", "85", "85 Electrical machinery", "85 電機"),
        ("hs_chapter", "*", "All", "合計"),
        ("funded_platform", "tmall", "Tmall", "天貓"),
        ("funded_platform", "all", "all platforms", "所有平台"),
        ("flow", "re_export", "re-exports", "轉口"),
        ("value_hkd", None, "", ""),
    ],
)
def test_a_value_of_a_column(column, value, english, chinese):
    assert (EN.value(column, value), ZH.value(column, value)) == (english, chinese)


def test_what_a_code_means_may_stand_in_another_column():
    assert EN.value("code", "9610", {"kind": "regime"}) == "9610 E-commerce direct mail"
    assert ZH.value("code", "tmall", {"kind": "platform"}) == "天貓"
    assert ZH.value("dimension_value", "micro", {"dimension": "sme_class"}) == "微型"
    assert EN.value("dimension_value", "total", {"dimension": "total"}) == "total"


def test_headings_have_units():
    assert EN.heading("late_share") == "Lodged late (%)"
    assert ZH.heading("value_hkd") == "當月出口（港元）"
    assert EN.heading("exporters") == "Exporters"
    assert unit_of("trends_are_parallel") == "yes_no"


def test_a_yes_says_what_of_where_no_heading_stands_over_it():
    """Kind of fault: the legend of a chart said yes and no, and not what of."""
    assert EN.mark("is_new_to_export", True) == "Known to be new to export: yes"
    assert ZH.mark("is_new_to_export", False) == "確知為新出口商：否"
    assert ZH.mark("platform", "tmall") == "天貓"


def test_lines_are_joined_without_a_space_beside_chinese():
    assert joined("截至\n  2026年，\n共 12\n家 in all\n of them") == "截至2026年，共12家in all of them"


def test_raw_values_are_those_of_sql():
    assert [raw(value) for value in (Decimal("1E+2"), True, None, date(2026, 1, 2), "x")] == [
        "100",
        "true",
        "",
        "2026-01-02",
        "x",
    ]
