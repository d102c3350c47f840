"""What a row in quarantine keeps when its cells may have slipped, so that no column that is not stored shows in another.

Where cells have no name beside them, one that is lost or one too many moves all behind it: a contact person's name then
stands in a column that is stored. Such a row breaks a type, a list of codes or a pattern. Of it only the
codes, dates and numbers are kept that their columns accept, and what has no letter and too few digits for a telephone
number, such as an amount that is written wrongly. A replay takes the others from the landed delivery (ADR 0002).
"""

from __future__ import annotations

from psycopg import sql

from sampan.contracts.model import Contract
from sampan.contracts.values import PSEUDONYM, WITHHELD

HAS_WITHHELD = f"""fields @? '$.* ? (@ == "{WITHHELD}")'"""
# Formats whose values have no name beside them.
POSITIONAL = ("csv", "fixed", "xlsx")
# What names no one, unless it may be a telephone number.
FIGURES = "^[-0-9 .,:/+()%]*$"
# Digits of a number that may be a telephone's.
TELEPHONE = r"^\D*(\d\D*){8,}$"
# What is shown for a cell of a workbook whose value is not known.
UNKNOWN = (
    r"^(#N/A|#[A-Z0-9/]{3,20}[!?]|\[merged with another cell\]|\[formula without a value\]|\[number out of range\])$"
)
ANY_PSEUDONYM = f"({PSEUDONYM.pattern.replace('(', '(?:', 1)})"


def kept(contract: Contract) -> tuple[sql.Composable, sql.Composable]:
    """SQL of the text and the fields that a row of quarantine.record keeps, over its columns `record` and `fields`."""
    if contract.source.format not in POSITIONAL or not any(column.personal == "drop" for column in contract.columns):
        return sql.SQL("record"), sql.SQL("fields")
    columns = contract.stored
    marks = [f"{column.name}.{rule}" for column in columns for rule in ("type", "enum", "pattern")]
    # Columns that take some values only, and those of them that take no telephone number or are needed to name the row.
    narrow = [c.name for c in columns if c.type != "text" or c.enum or "pattern" in c.options]
    certain = [c.name for c in columns if c.type not in ("text", "bigint", "numeric") or c.enum or c.primary_key]
    parts = {
        "marks": marks,
        "narrow": narrow,
        "certain": certain,
        "figures": FIGURES,
        "telephone": TELEPHONE,
        "pseudonym": ANY_PSEUDONYM,
        "whole_pseudonym": f"^{ANY_PSEUDONYM}$",
        "unknown": UNKNOWN,
        "withheld": WITHHELD,
    }
    literals = {name: sql.Literal(part) for name, part in parts.items()}
    # Pseudonyms stay: stewards see a token in place of each, and who tries numbers is found by them.
    record = sql.SQL(
        """
        case
            when fields is not null and broken_rules && {marks}::text[]
                then format(
                    '[withheld: %s characters that may hold personal data of columns that are not stored]%s',
                    length(record),
                    (select string_agg(' ' || found[1], '') from regexp_matches(record, {pseudonym}, 'g') as found)
                )
            else record
        end
        """
    )
    fields = sql.SQL(
        """
        case
            when broken_rules && {marks}::text[]
                then (
                    select
                        jsonb_object_agg(
                            name,
                            case
                                when
                                    value ~ {whole_pseudonym}
                                    or value ~ {unknown}
                                    or (value ~ {figures} and value !~ {telephone})
                                    or name = any({narrow}::text[])
                                    and not broken_rules && array[name || '.type', name || '.enum', name || '.pattern']
                                    and (name = any({certain}::text[]) or value !~ {telephone})
                                    then value
                                when value is not null then {withheld}
                            end
                        )
                    from jsonb_each_text(fields) as field (name, value)
                )
            else fields
        end
        """
    )
    return record.format(**literals), fields.format(**literals)
