"""Survivorship: which registration number survives where several are one enterprise, and since when."""

from __future__ import annotations

import hashlib

from sampan.database import Connection
from sampan.identity import persons

HELD_APART = "held_apart"


def run(connection: Connection, build_no: int) -> None:
    """Update the map of sme_ids: each merge begins a row, each split ends one."""
    clusters, refused = _clusters(connection)
    _propose_refused(connection, refused, build_no)
    wanted = {number: found for number, found in clusters.items() if number != found[0]}
    current = dict(connection.execute("select number, survivor_number from ops.identity_survivor").fetchall())
    ended = [number for number, survivor in current.items() if wanted.get(number, ("", ""))[0] != survivor]
    begun = [(number, *found) for number, found in wanted.items() if current.get(number) != found[0]]
    ids = {number: sme_id(number) for row in begun for number in row[:2]} | _persons(connection)
    held = {ids.get(number, sme_id(number)) for number in current.keys() - set(ended)}
    # Two pseudonyms of one person have one sme_id: it is merged once, and not into itself.
    merged = {ids[n]: (ids[n], n, ids[survivor], survivor, basis, build_no) for n, survivor, basis in sorted(begun)}
    connection.execute(
        """
        update ops.identity_survivorship set valid_to = clock_timestamp(), ended_build_no = %s
        where valid_to is null and number = any(%s)
        """,
        [build_no, ended],
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into ops.identity_survivorship (sme_id, number, survives_as, survivor_number, basis, build_no)
            values (%s, %s, %s, %s, %s, %s)
            """,
            [row for row in merged.values() if row[0] != row[2] and row[0] not in held],
        )


def sme_id(number: str) -> str:
    """The identifier of the enterprise with a registration number, as the models derive it."""
    return f"sme_{hashlib.md5(number.encode(), usedforsecurity=False).hexdigest()[:16]}"


def _persons(connection: Connection) -> dict[str, str]:
    """The sme_id of each pseudonym of a person; merges from before persons had random ones follow."""
    connection.execute("""
        update ops.identity_survivorship as merged set sme_id = person.sme_id
        from ops.person_pseudonym as person
        where person.pseudonym = merged.number and merged.sme_id = 'sme_' || left(md5(merged.number), 16);

        update ops.identity_survivorship as merged set survives_as = person.sme_id
        from ops.person_pseudonym as person
        where
            person.pseudonym = merged.survivor_number
            and merged.survives_as = 'sme_' || left(md5(merged.survivor_number), 16)
    """)
    return persons.ids(connection)


def _clusters(connection: Connection) -> tuple[dict[str, tuple[str, str]], list[tuple[str, str, str]]]:
    """For each number that is one enterprise with others: the number that survives, and the basis.

    Then the pairs that are not merged, with the reason: merging them would join, through a third number, two that a person
    holds apart.
    """
    apart = {
        frozenset(row)
        for row in connection.execute(
            "select source_key, number from ops.identity_verdict where source = 'number' and verdict = 'different'"
        )
    }
    clusters: dict[str, set[str]] = {}
    bases: dict[str, str] = {}
    refused = []
    for one, other, basis in _edges(connection):
        if frozenset((one, other)) in apart:
            continue
        left, right = clusters.get(one, {one}), clusters.get(other, {other})
        between = sorted(sorted(pair) for a in left for b in right if (pair := frozenset((a, b))) in apart)
        if between:
            refused.append((one, other, f"{basis}, but {between[0][0]} and {between[0][1]} are held apart"))
            continue
        both = left | right
        clusters |= dict.fromkeys(both, both)
        for number in (one, other):
            bases[number] = "decision" if basis == "decision" else bases.get(number, basis)
    return {number: (min(clusters[number], key=_rank), basis) for number, basis in bases.items()}, refused


def _edges(connection: Connection) -> list[tuple[str, str, str]]:
    """Pairs of numbers that are one enterprise, with the basis; decisions of persons first.

    A dummy UBI is made of the Companies Registry number, so it is the enterprise that has that number and a BRN.
    """
    return connection.execute("""
        with same_registry_number as (
            select dummy.source_key as number, min(entity.source_key) as other
            from ops.identity_entity as dummy
            inner join ops.identity_entity as entity
                on entity.source = 'number' and entity.registry_number = dummy.source_key
            where
                dummy.source = 'number'
                and dummy.source_key ~ '^[CF][0-9]{7}$'
                and entity.source_key ~ '^[0-9]{8}$'
            group by dummy.source_key
            having count(*) = 1
        )

        select number, other, 'registry_number' as basis from same_registry_number
        union all
        select source_key, number, 'decision' from ops.identity_verdict
        where source = 'number' and verdict = 'same'
        order by 3, 1, 2
    """).fetchall()


def _propose_refused(connection: Connection, refused: list[tuple[str, str, str]], build_no: int) -> None:
    """Propose contradictions to a person; withdraw a proposal once the contradiction is gone."""
    connection.execute(
        """
        update ops.identity_review set state = 'withdrawn'
        where
            state = 'open'
            and reason = %s
            and source = 'number'
            and not (source_key || ' ' || number) = any(%s)
        """,
        [HELD_APART, [f"{one} {other}" for one, other, _ in refused]],
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into ops.identity_review
                (source, source_key, number, reason, position, probability, evidence, build_no)
            values ('number', %s, %s, %s, 1, 1, %s, %s)
            on conflict (source, source_key, number) do update set
                state = 'open', reason = excluded.reason, evidence = excluded.evidence
            """,
            [(one, other, HELD_APART, evidence, build_no) for one, other, evidence in refused],
        )


def _rank(number: str) -> tuple[int, str]:
    """A BRN survives before a dummy, and a dummy before a pseudonym; of two of a kind the lower number."""
    kind = 0 if number.isdigit() else 2 if number.startswith("p") else 1
    return kind, number
