"""Persons: individuals, with the pseudonym of an HKID number where an enterprise has its registration number.

The sme_id of an enterprise follows from its number, which is public. That of a person is random and only in `ops.person`:
else who guesses an HKID number could look the person up. One person has one sme_id under every version of the key.
"""

from __future__ import annotations

from psycopg import sql

from sampan.contracts.registry import all_contracts
from sampan.database import Connection, scalar


def run(connection: Connection, full_refresh: bool) -> None:
    """Give an sme_id to each person that is new in the open build, or on a full refresh in any batch."""
    batches = sql.SQL("select batch_id from ops.{}").format(
        sql.Identifier("batches_built" if full_refresh else "batches_to_build")
    )
    for contract in all_contracts().values():
        for column in contract.columns:
            if column.identifies == "enterprise_number" and column.expects_hkid:
                _add(
                    connection,
                    sql.SQL("select {} from raw.{} where _batch_id in ({})").format(
                        sql.Identifier(column.name), sql.Identifier(contract.feed), batches
                    ),
                )
    # Those that builds before this table knew.
    if scalar(connection, "select to_regclass('intermediate.int_sme__numbered')"):
        _add(connection, sql.SQL("select number from intermediate.int_sme__numbered"))


def ids(connection: Connection) -> dict[str, str]:
    """The sme_id of each pseudonym of a person."""
    return dict(connection.execute("select pseudonym, sme_id from ops.person_pseudonym").fetchall())


def _add(connection: Connection, numbers: sql.Composable) -> None:
    connection.execute(
        sql.SQL(
            """
            insert into ops.person (oldest)
            select distinct coalesce(alias.oldest, seen.number)
            from ({}) as seen (number)
            left join ops.pseudonym_alias as alias on alias.pseudonym = seen.number
            where seen.number ~ '^p[0-9]+_'
            on conflict do nothing
            """
        ).format(numbers)
    )
