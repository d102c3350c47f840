"""What each kind of alert means to the person who gets it, in English and in traditional Chinese."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of alert. `title` and `what_to_do` are pairs: English, Chinese. Some go to a feed's contact too."""

    title: tuple[str, str]
    what_to_do: tuple[str, str]
    for_partners: bool = False


_CHECK = ("Please check the delivery and send a corrected one if needed.", "請檢查該次交付的資料，如有需要請重新交付。")
_LOOK = ("See `sampan status` and the runbook.", "請執行 `sampan status` 並參閱操作手冊。")

KINDS = {
    "held": Kind(
        ("Deliveries are held or refused", "交付的資料被暫扣或拒收"),
        (
            "Nothing of them is published. Please correct them and deliver again for the same date.",
            "有關資料未有發布。請更正後以同一日期重新交付。",
        ),
        for_partners=True,
    ),
    "rejected": Kind(
        ("Rows or deliveries did not get through", "部分資料未能通過檢查"),
        ("Please correct them and deliver again for the same date.", "請更正後以同一日期重新交付。"),
        for_partners=True,
    ),
    "late_at_partner": Kind(
        ("Deliveries are late", "資料逾期未交"),
        ("Please deliver them, or tell us if nothing is due.", "請盡快交付；如該日毋須交付，請通知我們。"),
        for_partners=True,
    ),
    "replaced": Kind(
        ("A delivery replaced one that differs much from it", "新交付的資料與之前的差異甚大"), _CHECK, True
    ),
    "stale": Kind(("A delivery repeats an earlier one", "交付的資料與之前的相同"), _CHECK, True),
    "empty": Kind(("A delivery has no rows", "交付的檔案沒有資料"), _CHECK, True),
    "checksum": Kind(("A checksum does not match its delivery", "檔案與其校驗碼不符"), _CHECK, True),
    "returned": Kind(("Earlier content was delivered again", "之前的內容再次交付"), _CHECK, True),
    "drift": Kind(
        ("A delivery has columns that were not agreed", "交付的資料有未經協定的欄位"),
        (
            "Please tell us what they are, and whether they hold personal data.",
            "請說明這些欄位的內容，以及是否包含個人資料。",
        ),
        for_partners=True,
    ),
    "recovered": Kind(("All is well again", "已恢復正常"), ("Nothing is to be done.", "毋須跟進。"), for_partners=True),
    "late_here": Kind(("Deliveries are not published in time", "資料未能如期發布"), _LOOK),
    "deadline": Kind(("A run takes too long", "工作執行時間過長"), _LOOK),
    "carried": Kind(("Marts wait, with the figures of an earlier release", "部分資料集市沿用較早的版本"), _LOOK),
    "failed": Kind(("The build of the marts failed", "資料集市未能建立"), _LOOK),
    "withdrawn": Kind(("Batches were withdrawn", "已撤回部分批次"), ("Nothing is to be done.", "毋須跟進。")),
    "consent": Kind(("Consents have ended", "部分授權已終止"), _LOOK),
    "hkid_guesses": Kind(
        ("Many HKID numbers of one partner are in quarantine", "同一夥伴有大量身份證號碼被隔離"), _LOOK
    ),
    "retention": Kind(("Data could not be deleted in time", "資料未能如期刪除"), _LOOK),
    "unsent": Kind(("A message may not have arrived", "有訊息可能未能送達"), _LOOK),
}
OTHER = Kind(("Something has to be looked at", "有事項需要跟進"), _LOOK)


def kind_of(name: str) -> Kind:
    """The kind by its name; one that is not known goes to the operators."""
    return KINDS.get(name, OTHER)
