"""What readers of a disclosure class see of the simulated world: no enterprise by name or number."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql
from sampan.settings import settings

from tests.integration.world import Simulated

pytestmark = pytest.mark.xdist_group("world")

IDENTIFIERS = {
    "dim_sme": ("sme_id", "brn", "name_en", "name_zh"),
    "dim_festival_participant": ("merchant_no", "merchant_name", "shop_name", "store_id"),
    "mart_quality_marks": ("certificate_no", "holder_name"),
    "mart_funding_applications": ("application_no",),
    "mart_insurance_utilisation": ("policy_no",),
    "mart_consents_live": ("consent_id",),
}
# Codes of goods have as many digits as registration numbers.
CODES_OF_GOODS = {"hkhs_code", "from_code", "to_code"}


@pytest.mark.parametrize(("role", "fewest"), [("policy_reader", 20), ("public_reader", 6)])
def test_no_value_that_a_reader_of_a_class_sees_is_a_name_or_number_of_an_enterprise(
    role: str, fewest: int, world: Simulated
):
    known: set[str] = set()
    for mart, columns in IDENTIFIERS.items():
        for column in columns:
            known |= {value for (value,) in world.read(f"select distinct {column} from marts.{mart}") if value}
    assert len(known) > 2000
    with world.installed(), psycopg.connect(settings().dsn("admin"), autocommit=True) as session:
        session.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        columns = session.execute(
            "select c.relname, a.attname from pg_class as c join pg_attribute as a on a.attrelid = c.oid"
            " where c.relnamespace = 'marts'::regnamespace and a.attnum > 0 and a.atttypid = 'text'::regtype"
            " and has_table_privilege(c.oid, 'select')"
        ).fetchall()
        assert len({mart for mart, _ in columns}) >= fewest
        found = {}
        for mart, column in columns:
            if column not in CODES_OF_GOODS:
                query = sql.SQL("select distinct {} from marts.{}").format(sql.Identifier(column), sql.Identifier(mart))
                told = {value for (value,) in session.execute(query).fetchall()} & known
                if told:
                    found[mart, column] = sorted(told)[:3]
        assert found == {}
        for mart in IDENTIFIERS:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(sql.SQL("select 1 from marts.{}").format(sql.Identifier(mart)))
