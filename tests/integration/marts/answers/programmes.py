"""Programmes: who is in which (10), and the holders of quality marks (15)."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl

from tests.integration.marts.answers.festival import in_hkd, order_lines, taking_part
from tests.integration.marts.answers.insurance import amount, as_date, years_of_cover
from tests.integration.marts.answers.reconciliation import GOLD
from tests.integration.marts.answers.trade import COUNTRIES, enterprises, lines
from tests.integration.marts.answers.who import linked, shop_key
from tests.integration.world import Simulated

GRANTED = ("approved", "in_progress", "completed", "terminated")
SCOPES = ("any", "brand", "company", "product", "shop")


def last_12_months(world: Simulated) -> tuple[date, date]:
    """First and last day of the last 12 months that can grow no more: shipments of a month may be declared for 31 days."""
    month_after = world.last.replace(day=1)
    while month_after + timedelta(days=30) > world.last:
        month_after = (month_after - timedelta(days=1)).replace(day=1)
    return month_after.replace(year=month_after.year - 1), month_after - timedelta(days=1)


def exports(world: Simulated) -> pl.DataFrame:
    """FOB value of what each enterprise exported in the last 12 months: `sme_id`, `exports`."""
    lines = world.frames["customs_declarations"].sort("business_date").with_columns(as_date("movement_date"))
    newest = pl.col("version") == pl.col("version").max().over("declaration_no")
    lines = lines.filter(newest).unique(["declaration_no", "version", "line_no"], keep="last")
    lines = lines.filter(
        pl.col("form_type").is_in(["2", "2A", "2B"]), pl.col("movement_date").is_between(*last_12_months(world))
    )
    owned = lines.join(linked(world, "number"), left_on="trader_id", right_on="source_key")
    return owned.group_by("sme_id").agg(
        amount("value_hkd").filter(~pl.col("hkhs_code").is_in(GOLD)).sum().alias("exports")
    )


def reached(world: Simulated) -> dict[str, set[str]]:
    """By programme the enterprises that it reached."""
    numbers = dict(linked(world, "number").iter_rows())
    statuses = world.frames["funding_applications"].sort("status_at", "business_date").unique(
        "application_no", keep="last"
    )  # fmt: skip
    granted = statuses.filter(pl.col("status").is_in(GRANTED))
    emf = pl.col("programme") == "emf"
    begun = taking_part(world).filter(pl.col("first_day") <= world.last)
    shops = begun.with_columns(shop_key()).join(linked(world, "shop"), on="source_key")
    by_number = {
        "bud": granted.filter(~emf)["brn"], "emf": granted.filter(emf)["brn"],
        "hkecic": world.frames["hkecic_policies"]["brn"],
    }  # fmt: skip
    found = {programme: {numbers[number] for number in brns} for programme, brns in by_number.items()}
    return found | {"festival": set(shops["sme_id"])}


def eligible(world: Simulated) -> pl.DataFrame:
    """Live enterprises on the register that are not large: `sme_id`, `industry_section`, `sme_class`."""
    register = world.frames["business_register"].unique(["brn", "branch_no"], keep="last", maintain_order=True)
    live = (
        register.sort("branch_no").unique("brn", keep="first", maintain_order=True).filter(pl.col("status") == "live")
    )
    sized = enterprises(world).filter(pl.col("sme_class") != "large", pl.col("trader_id").is_in(live["brn"].implode()))
    known = linked(world, "number").join(sized, left_on="source_key", right_on="trader_id")
    return known.unique("sme_id", keep="last", maintain_order=True).select("sme_id", "industry_section", "sme_class")


def question_10(world: Simulated) -> list[tuple[Any, ...]]:
    """By group of programmes: live enterprises, of unknown size, that export, and what they exported."""
    programmes, exported = reached(world), dict(exports(world).iter_rows())
    classes = dict(eligible(world).select("sme_id", "sme_class").iter_rows())
    groups: dict[str, list[str]] = {}
    for sme in classes:
        among = [name for name, members in programmes.items() if sme in members]
        group = "none" if not among else "several" if len(among) > 1 else f"{among[0]}_only"
        groups.setdefault(group, []).append(sme)
    return [
        (
            group, len(smes), sum(classes[sme] == "unknown" for sme in smes), sum(sme in exported for sme in smes),
            round(sum(exported.get(sme, 0) for sme in smes), 2),
        )
        for group, smes in sorted(groups.items())
    ]  # fmt: skip


def participants(world: Simulated) -> list[dict[str, Any]]:
    """Participants of missions whose 180 days are over, attended or withdrawn, and what they did before and after."""
    listed = world.frames["trade_missions"].sort("business_date").with_columns(as_date("starts_on", "ends_on"))
    listed = listed.unique(["event_id", "participant_no"], keep="last", maintain_order=True)
    key = pl.concat_str("event_id", pl.lit(":"), "participant_no").alias("source_key")
    listed = listed.with_columns(key).join(linked(world, "mission"), on="source_key", how="left")
    known = min(max(world.delivered[feed]) for feed in ("trade_missions", "customs_declarations", "platform_orders"))
    listed = listed.filter(pl.col("ends_on") + timedelta(days=180) <= known)
    declared = lines(world).filter(pl.col("direction") == "export").join(
        linked(world, "number"), left_on="trader_id", right_on="source_key"
    )  # fmt: skip
    months: dict[tuple[str, str], set[int]] = {}
    for sme, market, month in declared.select("sme_id", "counterparty_country", "month").unique().iter_rows():
        months.setdefault((sme, market), set()).add(month.year * 12 + month.month)
    sold = order_lines(world).filter(pl.col("paid_on").is_not_null(), pl.col("payment") > 0).with_columns(shop_key())
    sold = sold.join(linked(world, "shop"), on="source_key").group_by("sme_id").agg(pl.col("paid_on").min())
    first_sold = dict(sold.iter_rows())
    joined: dict[str, set[date]] = {}
    fairs = taking_part(world).with_columns(shop_key()).join(linked(world, "shop"), on="source_key")
    for sme, day in fairs.select("sme_id", "first_day").iter_rows():
        joined.setdefault(sme, set()).add(day)
    begun, orders_begun = (min(world.delivered[feed]) for feed in ("customs_declarations", "platform_orders"))
    found = []
    for row in listed.filter(pl.col("status").is_in(["attended", "withdrawn"])).iter_rows(named=True):
        start, end, sme = row["starts_on"], row["ends_on"], row["sme_id"]
        exported = months.get((sme, row["market"]), set())
        month, last_month = start.year * 12 + start.month, end.year * 12 + end.month
        after = [one for one in exported if one > last_month]
        until = end + timedelta(days=180)
        before: bool | None = any(month - 12 <= one < month for one in exported)
        if not before and begun.year * 12 + begun.month >= month - 12:
            before = None
        opened = sme in first_sold and end < first_sold[sme] <= until
        row["before"] = before if sme else None
        row["months"] = min(after) - last_month if after else None
        row["opened"] = opened and (orders_begun.year, orders_begun.month) < (start.year, start.month)
        row["joined"] = any(end < day <= until for day in joined.get(sme, ()))
        row["iso2"] = COUNTRIES.get(row["market"])
        found.append(row)
    return found


def question_26(world: Simulated) -> list[tuple[Any, ...]]:
    """By market and attendance: participants, known, with a first shop and in a festival within 180 days."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in participants(world):
        groups.setdefault((row["iso2"], row["status"]), []).append(row)
    answers = []
    for key, rows in sorted(groups.items()):
        known = [row for row in rows if row["sme_id"]]
        went_on = sum(row["joined"] for row in known)
        share = round(went_on / len(known), 4) if len(known) >= 10 else None
        answers.append((*key, len(rows), len(known), sum(row["opened"] for row in known), went_on, share))
    assert any(row[5] for row in answers)
    return answers


def question_27(world: Simulated) -> list[tuple[Any, ...]]:
    """By attendance and market: participants new to it, how many exported within 6 months, after how many months."""
    groups: dict[tuple[str, str], list[int | None]] = {}
    for row in participants(world):
        if row["before"] is False:
            groups.setdefault((row["status"], row["iso2"]), []).append(row["months"])
    answers = []
    for key, months in sorted(groups.items()):
        soon = [one for one in months if one is not None and one <= 6]
        share = round(len(soon) / len(months), 4) if len(months) >= 10 else None
        answers.append((*key, len(months), len(soon), share, sum(soon) / len(soon) if len(soon) >= 10 else None))
    assert any(row[3] for row in answers)
    return answers


def question_30(world: Simulated) -> list[tuple[Any, ...]]:
    """Of festival merchants and online sellers: how many are insured now, ever, and with an Online Micro-Business Policy."""
    programmes, able = reached(world), set(eligible(world)["sme_id"])
    numbers = dict(linked(world, "number").iter_rows())
    insured, micro = set(), set()
    for years in years_of_cover(world).values():
        for year in years:
            holder = numbers[year.newest["brn"]]
            if year.terms_on(world.last):
                insured.add(holder)
            if year.newest["policy_type"] == "online_micro_business":
                micro.add(holder)
    sellers = set(online_sales(world).filter(pl.col("paid") > 0)["sme_id"])
    answers = []
    for who, members in (("festival merchants", programmes["festival"] & able), ("online sellers", sellers & able)):
        now = len(members & insured)
        share = round(now / len(members), 4) if len(members) >= 10 else None
        answers.append((who, len(members), now, share, len(members & programmes["hkecic"]), len(members & micro)))
    assert all(row[2] for row in answers)
    return answers


def question_36(world: Simulated) -> list[tuple[Any, ...]]:
    """By industry and size: eligible enterprises, and how many of them each programme and none reached."""
    programmes = reached(world)
    funded = programmes["bud"] | programmes["emf"]
    everyone = funded | programmes["hkecic"] | programmes["festival"]
    answers = []
    for key, part in eligible(world).partition_by("industry_section", "sme_class", as_dict=True).items():
        members = set(part["sme_id"])
        none = len(members - everyone)
        sets = (funded, programmes["hkecic"], programmes["festival"])
        share = round(none / len(members), 4) if len(members) >= 10 else None
        answers.append((*key, len(members), *(len(members & reached) for reached in sets), none, share))
    assert any(row[-1] for row in answers)
    return sorted(answers, key=lambda row: row[:2])


def valid_marks(world: Simulated) -> pl.DataFrame:
    """The certificates that are valid on the last day."""
    entries = world.frames["quality_marks"].sort("status_at").with_columns(as_date("valid_from", "valid_to"))
    entries = entries.filter((pl.col("valid_from") <= world.last) | (pl.col("status") != "valid"))
    newest = entries.unique(["scheme", "certificate_no"], keep="last", maintain_order=True)
    return newest.filter(pl.col("status") == "valid", pl.col("valid_to").fill_null(world.last) >= world.last)


def holders(world: Simulated) -> dict[str, set[str]]:
    """By scope the enterprises that hold a mark which is valid on the last day; `any` for all scopes together."""
    key = pl.concat_str("scheme", pl.lit(":"), "certificate_no").alias("source_key")
    valid = valid_marks(world).with_columns(key).join(linked(world, "certificate"), on="source_key")
    found: dict[str, set[str]] = {}
    for scope, sme in valid.select("scope", "sme_id").iter_rows():
        found.setdefault(scope, set()).add(sme)
    return found | {"any": set(valid["sme_id"])}


def marked_shops(world: Simulated) -> set[str]:
    """Online shops with a valid mark of their own, whose holder is their enterprise or not known."""
    certificate = pl.concat_str("scheme", pl.lit(":"), "certificate_no").alias("certificate")
    valid = valid_marks(world).filter(pl.col("scope") == "shop", pl.col("store_id").is_not_null())
    owners, holding = dict(linked(world, "shop").iter_rows()), dict(linked(world, "certificate").iter_rows())
    pairs = valid.with_columns(certificate, shop_key()).select("certificate", "source_key").iter_rows()
    return {shop for number, shop in pairs if shop in owners and holding.get(number, owners[shop]) == owners[shop]}


def online_sales(world: Simulated) -> pl.DataFrame:
    """What the linked shops of each enterprise were paid in the last 12 months, in HKD.

    Columns: `sme_id`, `paid`, `refunded`, and what of them is of marked shops: `shops`, `marked`, `marked_refunded`.
    """
    lines, within = order_lines(world), last_12_months(world)
    either = pl.col("placed_on").is_between(*within) | pl.col("paid_on").is_between(*within)
    lines = lines.filter(either).with_columns(shop_key()).join(linked(world, "shop"), on="source_key")
    lines = lines.with_columns(pl.col("source_key").is_in(list(marked_shops(world))).alias("is_marked"))
    paid = in_hkd(
        lines.filter(pl.col("paid_on").is_between(*within)).with_columns(
            pl.col("paid_on").alias("day"), pl.col("payment", "refund") * 10**6
        ),
        world,
        "payment",
        "refund",
    )
    sums = paid.group_by("sme_id").agg(
        (pl.col("payment").sum() / 1e8).alias("paid"),
        (pl.col("refund").sum() / 1e8).alias("refunded"),
        (pl.col("payment").filter("is_marked").sum() / 1e8).alias("marked"),
        (pl.col("refund").filter("is_marked").sum() / 1e8).alias("marked_refunded"),
    )
    shops = lines.group_by("sme_id").agg(pl.col("source_key").filter("is_marked").n_unique().alias("shops"))
    return shops.join(sums, on="sme_id", how="left").fill_null(0)


def question_15(world: Simulated) -> list[tuple[Any, ...]]:
    """Exporters and merchants, by scope of the mark: how many hold one; sales and refunds with the mark and without."""
    firms = linked(world, "number").filter(~pl.col("source_key").str.starts_with("p"))
    marks, shops = holders(world), online_sales(world).join(firms, on="sme_id", how="semi")
    exporting = exports(world).join(firms, on="sme_id", how="semi")
    answers = []
    for name, members in (
        ("exporters", exporting.select("sme_id", pl.col("exports").alias("paid"))),
        ("merchants", shops),
    ):
        for scope in SCOPES:
            holds = pl.col("sme_id").is_in(list(marks.get(scope, ())))
            of_shop = (name, scope) == ("merchants", "shop")
            if of_shop:
                holds = pl.col("shops") > 0
            count = members.select(holds.sum()).item()
            sold, refunded = [], []
            for column, sums in (("paid", sold), ("refunded", refunded)):
                if column not in members.columns:
                    continue
                marked = f"marked{column.removeprefix('paid') and '_refunded'}"
                with_mark = members[marked].sum() if of_shop else members.filter(holds)[column].sum()
                sums += [with_mark, members[column].sum() - with_mark]
            sizes = [count, len(members) - count]
            row: list[Any] = [name, scope, len(members), count, round(count / len(members), 4)]
            row += [round(sum_of / size) if size >= 10 else None for sum_of, size in zip(sold, sizes, strict=True)]
            for position, size in enumerate(sizes):
                known = bool(refunded) and size >= 10 and sold[position] > 0
                row.append(round(refunded[position] / sold[position], 4) if known else None)
            answers.append(tuple(row))
    return answers
