"""The steward's desk: own rejected rows, corrected as a file, previewed, sent, and carried out when an operator accepts."""

from __future__ import annotations

import csv
import io
import re
import time

import pytest
import python_calamine
import xlsxwriter
from markupsafe import escape
from sampan import requests
from sampan.contracts.registry import get_contract
from sampan.desk.words import DeskWords

from tests.factory import DAY, encode, rows, stored

FEED = "funding_payments"
STEWARD = f"steward_{get_contract(FEED).partner}"


def deliver_broken(partner, count: int = 60) -> tuple[list[dict], str]:
    """A delivery with one row without a needed value, which has a script and a formula in others. Returns (rows as they
    should be, the name of the missing column)."""
    contract = get_contract(FEED)
    needed = next(c.name for c in contract.stored if c.required and not c.primary_key and not c.enum)
    given = rows(FEED, count)
    partner.hands_over(FEED, DAY, [row | ({needed: None} if n == 0 else {}) for n, row in enumerate(given)])
    batch = partner.ingest(FEED)
    assert (batch["state"], batch["rows_quarantined"]) == ("published", 1), batch["problem"]
    return given, needed


def table_of(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body.decode("utf-8-sig"))))


def ask_to_correct(partner, steward) -> tuple[list[dict], dict[str, str], int]:
    """Deliver a broken row and ask to correct it. Returns the right rows, that row as it was, and the request's number."""
    right, needed = deliver_broken(partner)
    broken = table_of(steward.get(f"/en/feeds/{FEED}/rows.csv").content)[0]
    steward.form(f"/en/feeds/{FEED}/corrections", ("a.csv", csv_of([broken | {needed: right[0][needed]}])))
    steward.form(f"/en/feeds/{FEED}/send", reason="x")
    return right, broken, partner.sampan.one("select request_id from ops.request")


def csv_of(table: list[dict[str, str]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, table[0])
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue().encode("utf-8-sig")


def xlsx_of(table: list[dict[str, str]]) -> bytes:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"strings_to_formulas": False}) as book:
        sheet = book.add_worksheet()
        for number, line in enumerate([list(table[0]), *(list(row.values()) for row in table)]):
            for place, value in enumerate(line):
                sheet.write_string(number, place, value)
    return out.getvalue()


@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_a_steward_corrects_a_row_and_it_is_published_when_an_operator_accepts(form, desks, partner):
    right, needed = deliver_broken(partner)
    steward, operator = desks.client(STEWARD), desks.client("sampan_operator")
    assert get_contract(FEED).title in steward.get("/en/feeds").text
    listed = steward.get(f"/en/feeds/{FEED}/rows").text
    assert f"{get_contract(FEED).column(needed).source_name} is missing" in listed
    assert f"缺少{get_contract(FEED).column(needed).source_name}" in steward.get(f"/zh-Hant/feeds/{FEED}/rows").text
    downloaded = steward.get(f"/en/feeds/{FEED}/rows.{form}").content
    if form == "xlsx":
        book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(downloaded))
        heads, *lines = book.get_sheet_by_index(0).to_python()
        table = [dict(zip(heads, map(str, line), strict=True)) for line in lines]
    else:
        table = table_of(downloaded)
    assert len(table) == 1
    assert f"{needed}.required" in table[0]["_broken_rules"]
    contract = get_contract(FEED)
    whole = next(row for row in right if all((row[k] or "") == table[0][k] for k in contract.key))
    write = csv_of if form == "csv" else xlsx_of
    # Unchanged, there is nothing to send; with a wrong value, the preview says so; neither is stored.
    path = f"/en/feeds/{FEED}/corrections"
    same = steward.form(path, (f"a.{form}", write(table)))
    assert (same.status_code, "No value of this file differs" in same.text) == (400, True)
    wrong = next(c for c in contract.stored if c.type in ("date", "numeric", "bigint"))
    bad = steward.form(path, (f"a.{form}", write([table[0] | {needed: whole[needed], wrong.name: "soon"}])))
    assert "would be rejected again" in bad.text
    assert f"{wrong.source_name} is not a" in bad.text
    assert partner.sampan.one("select count(*) from ops.request") == 0
    good = steward.form(path, (f"a.{form}", write([table[0] | {needed: whole[needed]}])))
    assert (good.status_code, "1 of 1 corrected rows keep all rules" in good.text) == (200, True)
    sent = steward.form(f"/en/feeds/{FEED}/send", reason="typing mistake, by the ledger of the bureau")
    assert "waits for a decision" in sent.text
    assert requests.run() == []
    number = partner.sampan.one("select request_id from ops.request where state = 'asked'")
    # Who decides sees what it was, why it was rejected, and what the gate would say, as the steward did.
    for person in (operator, steward):
        seen = person.get(f"/en/requests/{number}").text
        assert f"{contract.column(needed).source_name} is missing" in seen
        assert "1 of 1 corrected rows keep all rules" in seen
        # The preview says so; the request is kept.
        assert "Nothing is stored yet" in good.text
        assert "Nothing is stored yet" not in seen
        assert ("You see the decision here" in seen) == (person is steward)
        assert f"rows of {contract.title}" in seen
        row = re.search(rf">{needed}</td><td[^>]*>([^<]*)</td><td[^>]*>([^<]*)</td>", seen)
        assert row is not None
        assert row.groups() == ("–", str(escape(whole[needed])))
    operator.form(f"/en/requests/{number}", decision="accept", reason="checked")
    (ended,) = requests.run()
    assert (ended.state, ended.feed) == ("done", FEED), ended.outcome
    assert partner.raw(FEED) == stored(contract, right)
    assert "No row is rejected." in steward.get(f"/en/feeds/{FEED}/rows").text
    told = steward.get(f"/en/requests/{number}").text
    assert "1 published" in told
    # The corrected values are where they belong, and nowhere else.
    assert partner.sampan.one("select subject from ops.request where request_id = %s", number) == {
        "feed": FEED, "row_count": 1,
    }  # fmt: skip


def test_a_refused_request_changes_nothing(desks, partner):
    steward, operator = desks.client(STEWARD), desks.client("sampan_operator")
    right, _, number = ask_to_correct(partner, steward)
    operator.form(f"/en/requests/{number}", decision="reject", reason="deliver it again")
    assert [ended.state for ended in requests.run()] == ["done"]
    assert partner.sampan.rows("select state from ops.request order by request_id") == [("refused",), ("done",)]
    assert len(partner.raw(FEED)) == len(right) - 1
    assert "deliver it again" in steward.get(f"/en/requests/{number}").text
    # What was refused is not accepted later.
    again = operator.form(f"/en/requests/{number}", decision="accept", reason="x")
    assert again.status_code == 400


def test_how_to_deliver_says_what_the_contract_says(desks, partner):
    steward = desks.client(STEWARD)
    text = steward.get(f"/en/feeds/{FEED}/how").text
    contract = get_contract(FEED)
    assert f"s3://drop/{contract.drop_prefix}YYYY-MM-DD/" in text
    for column in contract.columns:
        assert column.source_name in text


@pytest.mark.parametrize("feed", ["customs_declarations", "hkecic_policies", "platform_orders"])
def test_a_file_is_judged_before_it_is_delivered_as_the_gate_judges_it(feed, desks, partner):
    """CSV, XLSX and JSON Lines: what the page says of each line is what the gate then says, and the page stores nothing."""
    contract = get_contract(feed)
    given = rows(feed, 40)
    others = [c for c in contract.stored if not c.primary_key and not c.enum and c.personal == "none"]
    needed = next(c for c in others if c.required)
    typed = next(c for c in others if c.type in ("numeric", "bigint", "date") and c is not needed)
    broken = [
        row | ({needed.name: None} if n == 3 else {typed.name: "soon"} if n == 7 else {}) for n, row in enumerate(given)
    ]
    body = encode(contract, broken)
    steward = desks.client(f"steward_{contract.partner}")
    path = f"/en/feeds/{feed}/attempt"
    tried = steward.form(path, (f"x.{contract.source.extension}", body), day=str(DAY))
    assert (tried.status_code, "38 of 40 rows keep all rules." in tried.text) == (200, True), tried.text[-1500:]
    assert partner.sampan.one("select count(*) from ops.batch") == 0
    partner.hands_over(feed, DAY, broken)
    partner.ingest(feed)
    words = DeskWords("en")
    for line, rules in partner.quarantined(feed):
        said = escape("; ".join(words.rule(contract, rule) for rule in rules))
        assert f"<li>Line {line}: {said}</li>" in tried.text
    assert len(partner.quarantined(feed)) == 2
    assert steward.form(path, ("x", body), day="soon").status_code == 400
    assert steward.form(path, ("x", b"no delivery"), day=str(DAY)).status_code == 400


def test_a_held_delivery_is_said_to_be_replaced_once_a_later_one_counts(desks, partner):
    """It stayed "held" for its steward, who had delivered it again."""
    contract = get_contract(FEED)
    needed = next(c.name for c in contract.stored if c.required and not c.primary_key)
    given, steward = rows(FEED, 60), desks.client(STEWARD)
    partner.hands_over(FEED, DAY, [row | {needed: None} for row in given])
    assert partner.ingest(FEED)["state"] == "held"
    assert "replaced by a later delivery" not in steward.get(f"/en/feeds/{FEED}").text
    # S3 says when an object came in whole seconds.
    time.sleep(1.1)
    partner.hands_over(FEED, DAY, given)
    assert partner.ingest(FEED)["state"] == "published"
    assert steward.get(f"/en/feeds/{FEED}").text.count("replaced by a later delivery") == 1
    assert "已由較後的交付取代" in steward.get(f"/zh-Hant/feeds/{FEED}").text


def test_rules_that_few_rows_broke_are_folded(desks, partner):
    """Some fifty rules stood above the rows: on a telephone, the first row was pages below."""
    feed = "customs_declarations"
    needed = [c.name for c in get_contract(feed).stored if c.required and not c.primary_key and not c.enum][:9]
    given = rows(feed, 300)
    partner.hands_over(feed, DAY, [row | ({needed[n]: None} if n < len(needed) else {}) for n, row in enumerate(given)])
    assert partner.ingest(feed)["state"] == "published"
    steward = desks.client("steward_customs")
    page = steward.get(f"/en/feeds/{feed}/rows").text
    above, _, below = page.partition("<details>")
    assert above.count("?rule=") == 6
    others = re.findall(r'\?rule=([^"]+)"', below)
    assert f"{len(others)} other rules" in below
    assert len(others) >= 3
    chosen = steward.get(f"/en/feeds/{feed}/rows?rule={others[-1]}").text
    assert "<details open>" in chosen
