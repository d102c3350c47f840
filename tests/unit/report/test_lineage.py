"""Which columns a column is made from, read from a model's SQL. The answers are worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from sampan.errors import PermanentFailure
from sampan.report import lineage
from sampan.settings import settings

COLUMNS = {
    "raw": {"orders": {"order_no": "text", "paid": "numeric", "fee": "numeric"}},
    "staging": {"stg_orders": {"order_no": "text", "net": "numeric"}},
    "build": {"mart_sales": {"orders": "bigint", "net": "numeric", "day": "date"}},
}


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMPAN_STATE", str(tmp_path))
    settings.cache_clear()
    for step, name, query in (
        (
            "staging",
            "stg_orders",
            "with every as (select * from sampan.raw.orders) select order_no, paid - fee as net from every",
        ),
        (
            "marts__x",
            "mart_sales",
            """
            with placed as (select * from "sampan"."staging"."stg_orders")
            select count(order_no) as orders, sum(net) as net, days.day
            from placed cross join generate_series(1, 3) as days(day) group by days.day
        """,
        ),
    ):
        folder = tmp_path / "dbt" / step / "compiled/sampan/models/x"
        folder.mkdir(parents=True)
        (folder / f"{name}.sql").write_text(query)
        (folder / "_x.yml").mkdir()
        (folder / "_x.yml" / "not_null_of_it.sql").write_text("select 1")
    yield tmp_path
    settings.cache_clear()


def test_a_column_is_followed_through_stars_and_sums_to_the_feed(compiled):
    assert lineage.sources_of(("marts.mart_sales", "net"), COLUMNS) == {
        ("marts.mart_sales", "net"): {("staging.stg_orders", "net")},
        ("staging.stg_orders", "net"): {("raw.orders", "paid"), ("raw.orders", "fee")},
        ("raw.orders", "paid"): frozenset(),
        ("raw.orders", "fee"): frozenset(),
    }
    files = lineage.compiled(COLUMNS)
    sales = lineage.model_of("marts.mart_sales", files["marts.mart_sales"], COLUMNS)
    assert sales.reads == {"staging.stg_orders"}
    assert sales.columns["day"] == frozenset()


@pytest.mark.parametrize(
    ("place", "meant"), [(("marts.mart_sales", "nett"), "net"), (("marts.mart_sale", "net"), "marts.mart_sales")]
)
def test_what_is_near_is_named_when_there_is_no_such_column(compiled, place, meant):
    with pytest.raises(PermanentFailure, match=f"did you mean {meant}"):
        lineage.sources_of(place, COLUMNS)


def test_what_cannot_be_resolved_comes_from_nothing_and_the_tables_are_known(compiled):
    path = lineage.compiled(COLUMNS)["staging.stg_orders"]
    path.write_text("select nowhere.x from sampan.raw.orders")
    expected = lineage.Model("staging.stg_orders", frozenset({"raw.orders"}), {"x": frozenset()})
    assert lineage.model_of("staging.stg_orders", path, COLUMNS) == expected
