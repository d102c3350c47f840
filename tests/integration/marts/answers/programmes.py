"""Programmes: who is in which (10), and the holders of quality marks (15)."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl

from tests.integration.marts.answers.festival import in_hkd, order_lines, taking_part
from tests.integration.marts.answers.insurance import amount, as_date
from tests.integration.marts.answers.trade import SMES, enterprises
from tests.integration.marts.answers.who import linked, shop_key
from tests.integration.world import Simulated

GRANTED = ("approved", "in_progress", "completed", "terminated")
SCOPES = ("any", "brand", "company", "product", "shop")


def first_month(world: Simulated) -> date:
    """The first of the 12 months that end with the last day."""
    last = world.last
    return date(last.year - (last.month < 12), last.month % 12 + 1, 1)


def exports(world: Simulated) -> pl.DataFrame:
    """FOB value of what each enterprise exported in the last 12 months: `sme_id`, `exports`."""
    lines = world.frames["customs_declarations"].sort("business_date").with_columns(as_date("movement_date"))
    newest = pl.col("version") == pl.col("version").max().over("declaration_no")
    lines = lines.filter(newest).unique(["declaration_no", "version", "line_no"], keep="last")
    lines = lines.filter(pl.col("form_type").is_in(["2", "2A", "2B"]), pl.col("movement_date") >= first_month(world))
    owned = lines.join(linked(world, "number"), left_on="trader_id", right_on="source_key")
    return owned.group_by("sme_id").agg(amount("value_hkd").sum().alias("exports"))


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


def question_10(world: Simulated) -> list[tuple[Any, ...]]:
    """By group of programmes: enterprises, those of them that export, and what they exported."""
    programmes, exported = reached(world), dict(exports(world).iter_rows())
    sized = enterprises(world).filter(pl.col("sme_class").is_in(SMES))
    smes = linked(world, "number").join(sized, left_on="source_key", right_on="trader_id")["sme_id"]
    groups: dict[str, list[str]] = {}
    for sme in set(smes):
        among = [name for name, members in programmes.items() if sme in members]
        group = "none" if not among else "several" if len(among) > 1 else f"{among[0]}_only"
        groups.setdefault(group, []).append(sme)
    return [
        (group, len(smes), sum(sme in exported for sme in smes), round(sum(exported.get(sme, 0) for sme in smes), 2))
        for group, smes in sorted(groups.items())
    ]


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
    lines, start = order_lines(world), first_month(world)
    either = (pl.col("placed_on") >= start) | (pl.col("paid_on") >= start)
    lines = lines.filter(either).with_columns(shop_key()).join(linked(world, "shop"), on="source_key")
    lines = lines.with_columns(pl.col("source_key").is_in(list(marked_shops(world))).alias("is_marked"))
    paid = in_hkd(
        lines.filter(pl.col("paid_on") >= start).with_columns(
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
