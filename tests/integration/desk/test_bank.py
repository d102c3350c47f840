"""The bank's desk: its own consents as they are now, what each opens, and nothing of another bank's."""

from __future__ import annotations

import re

from sampan import consent

from tests.integration.test_consent import NUMBERS, STATES, changes, deliver, make_release


def consents_of(page: str) -> dict[str, str]:
    """State by consent in the table of a page."""
    return dict(re.findall(r'/consents/(CS[0-9]{10})">.*?<span class="badge ([a-z_]+)">', page))


def test_a_bank_sees_its_own_consents_as_the_policies_judge_them(desks, sampan):
    deliver(sampan, changes())
    make_release()
    bank, other = desks.client("bank_b001"), desks.client("bank_b002")
    found = consents_of(bank.get("/en/consents").text)
    other_number = f"CS{NUMBERS['given to another bank']:010}"
    assert found.keys() == {f"CS{number:010}" for number in NUMBERS.values()} - {other_number}
    assert consents_of(other.get("/en/consents").text) == {other_number: "live"}
    live = {number for number in found if consent.describe(number)["live_scopes"]}
    assert {number for number, state in found.items() if state == "live"} == live
    by_name = {name: found.get(f"CS{number:010}") for name, number in NUMBERS.items()}
    assert by_name["revoked"] == by_name["revoked and renewed"] == "revoked"
    assert (by_name["ended"], by_name["not yet valid"]) == ("ended", "not_begun")
    assert by_name["for another purpose"] == "other_purpose"
    assert len(STATES) == len(found) + 1


def test_a_consent_opens_its_features_until_it_is_revoked(desks, sampan):
    deliver(sampan, changes())
    make_release()
    bank, number = desks.client("bank_b001"), f"CS{NUMBERS['live']:010}"
    before, in_chinese = (bank.get(f"/{folder}/consents/{number}").text for folder in ("en", "zh-Hant"))
    assert f">{1000 + NUMBERS['live']:,}" in before or str(1000 + NUMBERS["live"]) in before
    assert before.count("export_value_12m_hkd") == 2
    assert consent.revoke(number, "the owner rang", "steward")
    after = bank.get(f"/en/consents/{number}").text
    assert "The owner revoked it." in after
    assert "export_value_12m_hkd" not in after
    # The reason is between the owner and the platform.
    assert "the owner rang" not in after
    assert "export_value_12m_hkd" in bank.get("/en/features").text
    for page, name in (
        (before, "Exports of 12 months"), (in_chinese, "12個月出口額"), (bank.get("/zh-Hant/features").text, "12個月出口額")
    ):  # fmt: skip
        assert name in page
