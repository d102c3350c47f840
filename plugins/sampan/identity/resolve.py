"""Resolve: link shops, certificates and the like to enterprises; persons decide where names alone are not enough.

Who an entity is follows from, in this order: a person's decision; a registration number that its source gives; the number of
another shop of the same merchant; its name, when the linkage is certain. Other likely links wait for review. Enterprises
are registration numbers; two that are one enterprise share the surviving `sme_id` from then on, and the map keeps both.

A run takes in the names of the batches in the current build, and resolves only entities that they may affect: those that are
new or changed, those that share a key with a changed name of an enterprise, and those that a person has decided on. The
result for an entity depends on all names and decisions, so neither order nor number of runs matter.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from sampan import failpoints
from sampan.database import Connection, claimed_session, scalar
from sampan.identity import linkage, names, persons, survivorship, take_in
from sampan.identity.linkage import LinkDecision, NameRecord, Pair

log = logging.getLogger(__name__)
Key = tuple[str, str]
SEVERAL_NUMBERS, LIKELY, OTHER_NUMBER = "merchant_has_several_numbers", "likely", "number_not_on_register"


@dataclass(frozen=True)
class Entity:
    """One entity of a source with what decides on it.

    `given` is the number that its source gives, with its `basis`; `siblings` are the numbers of other entities of its
    merchant; `same` and `different` are the numbers that a person accepted and ruled out.
    """

    source: str
    source_key: str
    given: str | None
    basis: str | None
    operator: str
    siblings: tuple[str, ...]
    same: str | None
    different: frozenset[str]
    names: tuple[str, ...]

    @property
    def key(self) -> Key:
        """Source and key in it."""
        return self.source, self.source_key


def run(claim: str | None = None) -> dict[str, int]:
    """Link the entities that the current build may affect; all entities on a full refresh or with changed linkage rules.

    `claim` is the build's hold on the step (`build_no/step/token`); without a valid one TransientFailure is raised. Returns
    names that are new, entities resolved, and how many of those are linked, wait for review or are unlinked.
    """
    with claimed_session(claim) as connection:
        # One run at a time; who only reads links does not wait for it.
        connection.execute("lock table ops.identity_link in share row exclusive mode")
        build = connection.execute("select build_no, full_refresh from ops.open_build").fetchone()
        if build is None:
            return {"names": 0, "entities": 0, "linked": 0, "review": 0, "unlinked": 0}
        build_no, full_refresh = build
        last = connection.execute(
            "select model, last_decision_id from ops.identity_run order by run_no desc limit 1"
        ).fetchone()
        whole = full_refresh or last is None or last[0] != linkage_version()
        # Read first: a decision that is made while this runs is left to the next run.
        newest = scalar(connection, "select coalesce(max(decision_id), 0) from ops.identity_decision")
        new_names = take_in.run(connection, whole, 0 if last is None else last[1])
        persons.run(connection, full_refresh)
        entities = _affected(connection, whole)
        counts = _resolve(connection, build_no, entities)
        survivorship.run(connection, build_no)
        done = {"names": new_names, "entities": len(entities), **counts}
        connection.execute(
            """
            insert into ops.identity_run (build_no, model, whole, last_decision_id, counts)
            values (%s, %s, %s, %s, %s)
            """,
            [build_no, linkage_version(), whole, newest, Jsonb(done)],
        )
        failpoints.hit("identity.before_commit")
        connection.commit()
    log.info("identity: %s", ", ".join(f"{count} {what}" for what, count in done.items()))
    return done


def linkage_version() -> str:
    """Changes when the linkage model, the tables of words and aliases, or the rules of names change."""
    return hashlib.sha256(f"{linkage.version()}/{names.fingerprint()}".encode()).hexdigest()[:16]


# --- which entities ---------------------------------------------------------------------------------------------------


def _affected(connection: Connection, whole: bool) -> list[Entity]:
    """The entities whose link may change, with everything that decides on it; temporary table `affected` names them."""
    connection.execute("""
        create temporary table affected (source text, source_key text, primary key (source, source_key)) on commit drop
    """)
    if whole:
        connection.execute("insert into affected select source, source_key from ops.identity_entity")
    else:
        _add_affected(connection)
    # An entity that is itself a number is resolved only when the number is a dummy or not on the register.
    connection.execute("""
        delete from affected
        where
            source = 'number'
            and not exists (
                select from ops.identity_entity as entity
                where
                    entity.source = affected.source
                    and entity.source_key = affected.source_key
                    and (not is_on_register or entity.source_key !~ '^[0-9]{8}$')
                    and entity.source_key !~ '^p[0-9]+_'
            )
    """)
    connection.execute("analyze affected")
    rows = connection.execute("""
        with verdicts as (
            select
                source,
                source_key,
                (array_agg(number order by decision_id desc) filter (where verdict = 'same'))[1] as same,
                array_agg(number) filter (where verdict = 'different') as different
            from ops.identity_verdict
            inner join affected using (source, source_key)
            group by source, source_key
        ),

        named as (
            select source, source_key, array_agg(name order by name) as names
            from ops.identity_name
            inner join affected using (source, source_key)
            group by source, source_key
        ),

        merchants as (
            select source, merchant, array_agg(distinct number order by number) as numbers
            from ops.identity_entity
            where merchant is not null and number is not null
            group by source, merchant
        )

        select
            source,
            source_key,
            entity.number,
            number_basis,
            coalesce(operator_uscc, ''),
            coalesce(merchants.numbers, '{}'),
            verdicts.same,
            coalesce(verdicts.different, '{}'),
            coalesce(named.names, '{}')
        from affected
        inner join ops.identity_entity as entity using (source, source_key)
        left join verdicts using (source, source_key)
        left join named using (source, source_key)
        left join merchants using (source, merchant)
        order by source, source_key
    """).fetchall()
    return [
        Entity(source, key, given, basis, operator, tuple(siblings), same, frozenset(different), tuple(named))
        for source, key, given, basis, operator, siblings, same, different, named in rows
    ]


def _add_affected(connection: Connection) -> None:
    """Changed entities, those that share a key with a name of a changed enterprise, and others of their merchants."""
    connection.execute("insert into affected select source, source_key from changed")
    connection.execute("""
        insert into affected
        select distinct other.source, other.source_key
        from changed
        inner join ops.identity_key as own using (source, source_key)
        inner join ops.identity_key as other on other.key = own.key
        where own.number is not null or changed.number_before is not null
        on conflict do nothing
    """)
    connection.execute("""
        insert into affected
        select distinct other.source, other.source_key
        from changed
        inner join ops.identity_entity as entity using (source, source_key)
        inner join ops.identity_entity as other
            on other.source = entity.source and other.merchant in (entity.merchant, changed.merchant_before)
        on conflict do nothing
    """)


# --- deciding ---------------------------------------------------------------------------------------------------------


def _resolve(connection: Connection, build_no: int, entities: Sequence[Entity]) -> dict[str, int]:
    """Write the link or the proposals of each entity. Returns how many are linked, wait for review or are unlinked."""
    links: list[tuple[Any, ...]] = []
    proposals: list[tuple[Any, ...]] = []
    counts = {"linked": 0, "review": 0, "unlinked": 0}
    unidentified = []
    for entity in entities:
        number, basis = _identified(entity)
        if number:
            links.append((*entity.key, number, "linked", basis, None, None, build_no))
            counts["linked"] += 1
        else:
            unidentified.append(entity)
    decisions = _by_name(connection, unidentified)
    for entity in unidentified:
        decision = decisions[entity.key]
        wanted = _proposals(entity, decision)
        if any(reason == SEVERAL_NUMBERS for *_, reason, _ in wanted):
            decision = LinkDecision(None, None, None, decision.proposals)
        state = "linked" if decision.number else "review" if wanted else "unlinked"
        counts[state] += 1
        basis = "name" if decision.number else None
        if entity.source != "number":
            links.append(
                (*entity.key, decision.number, state, basis, decision.probability, decision.evidence, build_no)
            )
        proposals += [
            (*entity.key, number, reason, position, probability, evidence, Jsonb(details), build_no)
            for position, (number, probability, evidence, reason, details) in enumerate(wanted, 1)
        ]
    _write(connection, links, proposals)
    return counts


def _identified(entity: Entity) -> tuple[str | None, str | None]:
    """The number that a person, the source or the merchant's other shops give, and which of the three it was."""
    if entity.source == "number":
        return None, None
    if entity.same:
        return entity.same, "decision"
    if entity.given and entity.given not in entity.different:
        return entity.given, entity.basis
    siblings = [number for number in entity.siblings if number not in entity.different]
    if len(siblings) == 1:
        return siblings[0], "same_merchant"
    return None, None


def _proposals(entity: Entity, decision: LinkDecision) -> list[tuple[str, float, str, str, dict[str, Any]]]:
    """What a person should review: number, probability, evidence, reason and details, the likeliest first.

    The numbers of the merchant's other shops, when there are several; else the likely enterprises by name.
    """
    likely = {pair.number: (pair.probability, pair.evidence) for pair in decision.proposals}
    several = [number for number in entity.siblings if number not in entity.different]
    if entity.source != "number" and len(several) > 1:
        evidence = "number of the merchant's other shop"
        return [(number, likely.get(number, (0.5, ""))[0], evidence, SEVERAL_NUMBERS, {}) for number in several]
    reason = OTHER_NUMBER if entity.source == "number" else LIKELY
    return [(pair.number, pair.probability, pair.evidence, reason, _details(pair)) for pair in decision.proposals]


def _details(pair: Pair) -> dict[str, Any]:
    return {"weight": round(pair.weight, 3), "scripts": pair.scripts, "trades": pair.trades, "operator": pair.operator}


def _by_name(connection: Connection, entities: Sequence[Entity]) -> dict[Key, LinkDecision]:
    """What follows from the names of entities that nothing else identifies."""
    of = {"\x1f".join(entity.key): entity for entity in entities}
    sources = [
        NameRecord(joined_key, parsed, entity.operator)
        for joined_key, entity in of.items()
        for name in entity.names
        for parsed in names.parse(name)
    ]
    sources = [_with_operator(record) for record in sources]
    frequency = dict(
        connection.execute(
            """
            select key, count(distinct number) from ops.identity_key
            where key = any(%s) and number is not null
            group by key
            """,
            [sorted({key for record in sources for key in record.name.keys})],
        ).fetchall()
    )
    chosen = sorted({key for record in sources for key in linkage.blocks(record.name.keys, frequency)})
    enterprises, registered = _enterprises(connection, chosen)
    pairs: dict[str, list[Pair]] = defaultdict(list)
    for pair in linkage.score(sources, enterprises, frequency):
        entity = of[pair.entity]
        # A number is proposed for another number only when that one is registered.
        if entity.source != "number" or (pair.number != entity.source_key and pair.number in registered):
            pairs[pair.entity].append(pair)
    return {
        entity.key: linkage.decide(pairs[joined_key], entity.different, merges=entity.source != "number")
        for joined_key, entity in of.items()
    }


def _with_operator(record: NameRecord) -> NameRecord:
    if not record.operator:
        return record
    return NameRecord(record.entity, record.name.under(f"u:{record.operator}"), record.operator)


def _enterprises(connection: Connection, keys: Sequence[str]) -> tuple[list[NameRecord], set[str]]:
    """Every name of the enterprises that have one of the keys, and which of them are on the register by a BRN."""
    rows = connection.execute(
        """
        with found as (
            select distinct source, source_key, number from ops.identity_key
            where key = any(%s) and number is not null
        )

        select distinct found.number, name, coalesce(operator_uscc, '')
        from found
        inner join ops.identity_entity using (source, source_key)
        inner join ops.identity_name using (source, source_key)
        order by 1, 2, 3
        """,
        [keys],
    ).fetchall()
    records = [
        _with_operator(NameRecord(number, parsed, operator))
        for number, name, operator in rows
        for parsed in names.parse(name)
    ]
    registered = connection.execute(
        """
        select source_key from ops.identity_entity
        where source = 'number' and is_on_register and source_key ~ '^[0-9]{8}$' and source_key = any(%s)
        """,
        [sorted({record.entity for record in records})],
    )
    return records, {row[0] for row in registered}


def _write(connection: Connection, links: Iterable[tuple[Any, ...]], proposals: Iterable[tuple[Any, ...]]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into ops.identity_link
                (source, source_key, number, state, basis, probability, evidence, build_no)
            values (%s, %s, %s, %s, %s, %s, %s, %s)
            on conflict (source, source_key) do update set
                number = excluded.number, state = excluded.state, basis = excluded.basis,
                probability = excluded.probability, evidence = excluded.evidence, build_no = excluded.build_no,
                decided_at = clock_timestamp()
            where
                (
                    identity_link.number, identity_link.state, identity_link.basis, identity_link.probability,
                    identity_link.evidence
                ) is distinct from (
                    excluded.number, excluded.state, excluded.basis, excluded.probability, excluded.evidence
                )
            """,
            list(links),
        )
        connection.execute("""
            create temporary table proposed (
                source text, source_key text, number text, reason text, position integer,
                probability double precision, evidence text, details jsonb, build_no bigint
            ) on commit drop
        """)
        cursor.executemany("insert into proposed values (%s, %s, %s, %s, %s, %s, %s, %s, %s)", list(proposals))
    # Accepted and rejected proposals keep their state; a later decision is a new row of ops.identity_decision.
    connection.execute("""
        insert into ops.identity_review
            (source, source_key, number, reason, position, probability, evidence, details, build_no)
        select * from proposed
        on conflict (source, source_key, number) do update set
            state = case when identity_review.state = 'withdrawn' then 'open' else identity_review.state end,
            reason = excluded.reason, position = excluded.position, probability = excluded.probability,
            evidence = excluded.evidence, details = excluded.details
    """)
    connection.execute("""
        update ops.identity_review as review set state = 'withdrawn'
        from affected
        where
            review.state = 'open'
            and review.source = affected.source
            and review.source_key = affected.source_key
            and not exists (
                select from proposed
                where
                    proposed.source = review.source
                    and proposed.source_key = review.source_key
                    and proposed.number = review.number
            )
    """)
