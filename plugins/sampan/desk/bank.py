"""The bank's desk: consents, what each opens until when, the features and their meaning, and what a revocation did."""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.responses import Response

from sampan.consent import CONSENT_ID
from sampan.desk.visit import Row, Visit

SHOWN = 500
MART = "mart_credit_features"
# What a row is about, and whose: told above the features.
ABOUT = ("consent_id", "bank_id", "scope", "consent_scope", "purpose", "consent_purpose", "release_no")


def consents(visit: Visit) -> Response:
    """Consents that name this bank: those that open data now first."""
    counts = visit.rows("select state, count(*) as n from desk.consent group by state order by n desc, state")
    wanted = visit.request.query_params.get("state", "")
    found = visit.rows(
        """
        select * from desk.consent
        where %s = '' or state = %s
        order by state = 'live' desc, valid_to, consent_id
        limit %s
        """,
        wanted,
        wanted,
        SHOWN,
    )
    return visit.page("consents.html", consents=found, counts=counts, wanted=wanted, most=SHOWN)


def consent(visit: Visit) -> Response:
    """One consent: its terms, and the features that may be read under it at this moment."""
    number = visit.request.path_params["consent"]
    if not CONSENT_ID.fullmatch(number):
        raise HTTPException(404)
    found = visit.row("select * from desk.consent where consent_id = %s", number)
    columns = _columns(visit)
    rows = (
        visit.rows(f"select * from marts.{MART} where consent_id = %s order by consent_scope", number)
        if columns
        else []
    )
    features = [
        (row, [(column, row[column["name"]]) for column in columns if _is_feature(column["name"], row)]) for row in rows
    ]
    return visit.page("consent.html", consent=found, features=features, released=bool(columns))


def features(visit: Visit) -> Response:
    """Every feature with its meaning, as the mart describes it."""
    return visit.page("features.html", columns=_columns(visit))


def _columns(visit: Visit) -> list[Row]:
    """Name and meaning of the mart's columns; empty before the first release, and where the bank may not read it yet."""
    found = visit.rows(
        """
        select a.attname as name, col_description(a.attrelid, a.attnum) as meaning from pg_attribute as a
        join pg_class as c on c.oid = a.attrelid
        join pg_namespace as n on n.oid = c.relnamespace
        where
            n.nspname = 'marts' and c.relname = %s and a.attnum > 0 and not a.attisdropped
            and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')
        order by a.attnum
        """,
        MART,
    )
    described = {row["name"]: re.sub(r"\s+", " ", row["meaning"] or "") for row in found}
    return [{"name": name, "meaning": visit.words.feature(name, meaning)} for name, meaning in described.items()]


def _is_feature(name: str, row: Row) -> bool:
    return name not in ABOUT and row[name] is not None
