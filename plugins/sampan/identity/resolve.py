"""identity: link shops, certificates and the like to enterprises, and let persons decide where names alone cannot.

What says who an entity is, in this order: a person; a registration number that its source gives; the number of another
shop of the same merchant; its name, when the linkage is sure. All else that is likely waits for review. Enterprises
are registration numbers; two that are one share the surviving `sme_id` from then on, and the map keeps both.

A run takes in the names of the batches in the build under way, and looks again only at what they may change: entities
that are new or said otherwise, those that share a key with a name of an enterprise that is, and those that a person has
decided on. What it says of an entity follows from all names and decisions, so neither order nor number of runs matter.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from sampan import failpoints
from sampan.database import connect
from sampan.errors import Code, PermanentFailure, Problem, require_reason
from sampan.identity import linkage, names
from sampan.identity.linkage import Outcome, Pair, Record

log = logging.getLogger(__name__)
Key = tuple[str, str]
# An entity that is itself a number is looked at only when the number is a dummy or not on the register.
UNSURE_NUMBER = "(not is_on_register or entity.source_key !~ '^[0-9]{8}$') and entity.source_key !~ '^p[0-9]+_'"
SEVERAL_NUMBERS, LIKELY, OTHER_NUMBER = "merchant_has_several_numbers", "likely", "number_not_on_register"
HELD_APART = "held_apart"


@dataclass
class Entity:
    """One entity of a source with what is known of it. `given` is the number that its source gives, `siblings` those
    that other entities of its merchant have."""

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
    """Link what the batches of the build under way brought; all anew on a full refresh or with another model.

    `claim` is the build's hold on the step (`build_no/step/token`); who lost it is refused. Returns names new to the
    platform, entities looked at, and how many of those are linked, wait for review or are like nothing known.
    """
    with connect("builder", autocommit=False) as connection:
        connection.execute("select set_config('sampan.claim', %s, false)", [claim or ""])
        connection.execute("select ops.assert_step_claimed()")
        connection.execute("select pg_advisory_xact_lock(hashtext('sampan.identity'))")
        build = connection.execute("select build_no, full_refresh from ops.open_build").fetchone()
        if build is None:
            return {"names": 0, "entities": 0, "linked": 0, "review": 0, "unlinked": 0}
        last = connection.execute(
            "select model, last_decision_id from ops.identity_run order by run_no desc limit 1"
        ).fetchone()
        whole = bool(build[1]) or last is None or last[0] != _model()
        # A decision that is made while this runs is left to the next run.
        newest = connection.execute("select coalesce(max(decision_id), 0) from ops.identity_decision").fetchone()
        new_names = _take_in(connection, whole, 0 if last is None else last[1])
        entities = _touched(connection, whole)
        counts = _settle(connection, build[0], entities)
        _survivorship(connection, build[0])
        done = {"names": new_names, "entities": len(entities), **counts}
        connection.execute(
            "insert into ops.identity_run (build_no, model, whole, last_decision_id, counts)"
            " values (%s, %s, %s, %s, %s)",
            [build[0], _model(), whole, newest[0] if newest else 0, Jsonb(done)],
        )
        failpoints.hit("identity.before_commit")
        connection.commit()
    log.info("identity: %s", ", ".join(f"{count} {what}" for what, count in done.items()))
    return done


def sme_id(number: str) -> str:
    """The identifier of the enterprise with a registration number, as the models derive it."""
    return f"sme_{hashlib.md5(number.encode(), usedforsecurity=False).hexdigest()[:16]}"


def _model() -> str:
    return hashlib.sha256(linkage.MODEL.read_bytes() + names.fingerprint().encode()).hexdigest()[:16]


# --- taking in --------------------------------------------------------------------------------------------------------


def _take_in(connection: psycopg.Connection[Any], whole: bool, last_decision_id: int) -> int:
    """Bring entities, names and keys up to date; temporary table `changed` holds the entities that are new or other."""
    if whole:
        for table in ("identity_key", "identity_name", "identity_link", "identity_seen", "identity_entity"):
            connection.execute(f"delete from ops.{table}")
    batches = [
        row[0]
        for row in connection.execute(
            f"select batch_id from ops.{'batches_built' if whole else 'batches_to_build'} order by batch_id"
        )
    ]
    connection.execute(
        "create temporary table seen on commit drop as"
        " select source, source_key, name, number, number_basis, registry_number, merchant, operator_uscc,"
        " bool_or(is_on_register) as is_on_register, is_stated, max(stated_on) as stated_on, batch_id, business_date,"
        " received_at from staging.stg_ops__identity_names"
        " where batch_id = any(%s) and source_key is not null"
        " group by source, source_key, name, number, number_basis, registry_number, merchant, operator_uscc, is_stated,"
        " batch_id, business_date, received_at",
        [batches],
    )
    connection.execute("analyze seen")
    connection.execute(
        "insert into ops.identity_seen (feed, source, source_key) select distinct feed, source, source_key"
        " from seen join ops.batch using (batch_id) on conflict do nothing"
    )
    _drop_wrong_operators(connection)
    connection.execute(
        "create temporary table changed (source text, source_key text, number_before text, merchant_before text,"
        " primary key (source, source_key)) on commit drop"
    )
    connection.execute(
        "insert into changed select entity.source, entity.source_key, (select max(number) from ops.identity_key"
        " where identity_key.source = entity.source and identity_key.source_key = entity.source_key), entity.merchant"
        " from ops.identity_entity as entity where (entity.source, entity.source_key) in"
        " (select source, source_key from ops.identity_decision where decision_id > %s)",
        [last_decision_id],
    )
    connection.execute(
        "insert into ops.identity_entity (source, source_key, number, number_basis)"
        " select distinct source, source_key, case when source = 'number' then source_key end,"
        " case when source = 'number' then 'registration_number' end from seen on conflict do nothing"
    )
    # The newest delivery that states numbers has the word; deliveries may arrive in any order.
    connection.execute(
        "create temporary table stated on commit drop as"
        " select distinct on (source, source_key) seen.source, seen.source_key,"
        " case when seen.source = 'number' then seen.source_key else seen.number end as number, seen.number_basis,"
        " seen.registry_number, seen.merchant, seen.operator_uscc, seen.batch_id, seen.business_date, seen.received_at"
        " from seen join ops.identity_entity as entity using (source, source_key)"
        " where is_stated and (entity.stated_batch_id is null or (seen.business_date, seen.received_at, seen.batch_id)"
        " > (entity.stated_business_date, entity.stated_received_at, entity.stated_batch_id))"
        " order by source, source_key, business_date desc, received_at desc, batch_id desc,"
        " (seen.number is null), stated_on desc, seen.number, seen.merchant"
    )
    connection.execute(
        "insert into changed select source, source_key, entity.number, entity.merchant"
        " from stated join ops.identity_entity as entity using (source, source_key)"
        " where entity.stated_batch_id is null or (entity.number, entity.registry_number, entity.merchant,"
        " entity.operator_uscc) is distinct from (stated.number, stated.registry_number, stated.merchant,"
        " stated.operator_uscc) on conflict do nothing"
    )
    connection.execute(
        "update ops.identity_entity as entity set number = stated.number,"
        " number_basis = case when stated.number is not null then stated.number_basis end,"
        " registry_number = stated.registry_number, merchant = stated.merchant, operator_uscc = stated.operator_uscc,"
        " stated_batch_id = batch_id, stated_business_date = business_date, stated_received_at = received_at"
        " from stated where entity.source = stated.source and entity.source_key = stated.source_key"
    )
    connection.execute(
        "with newly as (update ops.identity_entity as entity set is_on_register = true from"
        " (select distinct source, source_key from seen where is_on_register) as listed"
        " where entity.source = listed.source and entity.source_key = listed.source_key and not entity.is_on_register"
        " returning entity.source, entity.source_key, entity.number, entity.merchant)"
        " insert into changed select * from newly on conflict do nothing"
    )
    return _new_names(connection)


def _drop_wrong_operators(connection: psycopg.Connection[Any]) -> None:
    """A unified social credit code whose check character is wrong identifies nobody."""
    from stdnum.cn import uscc

    codes = connection.execute("select distinct operator_uscc from seen where operator_uscc is not null").fetchall()
    wrong = [code for (code,) in codes if not uscc.is_valid(code)]
    connection.execute("update seen set operator_uscc = null where operator_uscc = any(%s)", [wrong])


def _new_names(connection: psycopg.Connection[Any]) -> int:
    added = connection.execute(
        "insert into ops.identity_name select distinct source, source_key, name from seen where name is not null"
        " on conflict do nothing returning source, source_key, name"
    ).fetchall()
    connection.execute("create temporary table new_key (key text, source text, source_key text) on commit drop")
    with connection.cursor().copy("copy new_key from stdin") as copy:
        for source, source_key, name in added:
            for key in {key for parsed in names.parse(name) for key in parsed.keys}:
                copy.write_row((key, source, source_key))
    connection.execute("analyze new_key")
    connection.execute(
        "insert into changed select distinct source, source_key, entity.number, entity.merchant"
        " from new_key join ops.identity_entity as entity using (source, source_key) on conflict do nothing"
    )
    # The operator is a key too, of the entity rather than of a name.
    connection.execute(
        "delete from ops.identity_key using changed where identity_key.source = changed.source"
        " and identity_key.source_key = changed.source_key and key like 'u:%'"
    )
    connection.execute(
        "insert into new_key select 'u:' || operator_uscc, source, source_key"
        " from changed join ops.identity_entity using (source, source_key) where operator_uscc is not null"
    )
    connection.execute(
        "insert into ops.identity_key (key, source, source_key, number)"
        " select distinct key, source, source_key, entity.number"
        " from new_key join ops.identity_entity as entity using (source, source_key) on conflict do nothing"
    )
    # The names of an entity are those of the enterprise that a person or its source says it is.
    connection.execute(
        "update ops.identity_key set number = holder.number from (select source, source_key, case"
        " when source = 'number' then entity.number"
        " else coalesce((array_agg(verdict.number order by decision_id desc) filter (where verdict = 'same'))[1], case"
        " when not coalesce(bool_or(verdict = 'different' and verdict.number = entity.number), false)"
        " then entity.number end) end as number"
        " from changed join ops.identity_entity as entity using (source, source_key)"
        " left join ops.identity_verdict as verdict using (source, source_key)"
        " group by source, source_key, entity.number) as holder where identity_key.source = holder.source"
        " and identity_key.source_key = holder.source_key and identity_key.number is distinct from holder.number"
    )
    return len(added)


# --- what to look at --------------------------------------------------------------------------------------------------


def _touched(connection: psycopg.Connection[Any], whole: bool) -> list[Entity]:
    """The entities whose link may be another than before, with all that decides on it."""
    connection.execute(
        "create temporary table touched (source text, source_key text, primary key (source, source_key)) on commit drop"
    )
    if whole:
        connection.execute("insert into touched select source, source_key from ops.identity_entity")
    else:
        connection.execute("insert into touched select source, source_key from changed")
        connection.execute(
            "insert into touched select distinct other.source, other.source_key from changed"
            " join ops.identity_key as own using (source, source_key)"
            " join ops.identity_key as other on other.key = own.key"
            " where own.number is not null or changed.number_before is not null on conflict do nothing"
        )
        connection.execute(
            "insert into touched select distinct other.source, other.source_key from changed"
            " join ops.identity_entity as entity using (source, source_key) join ops.identity_entity as other"
            " on other.source = entity.source and other.merchant in (entity.merchant, changed.merchant_before)"
            " on conflict do nothing"
        )
    connection.execute(
        "delete from touched where source = 'number' and not exists (select from ops.identity_entity as entity"
        f" where entity.source = touched.source and entity.source_key = touched.source_key and {UNSURE_NUMBER})"
    )
    connection.execute("analyze touched")
    rows = connection.execute(
        "with word as (select source, source_key,"
        " (array_agg(number order by decision_id desc) filter (where verdict = 'same'))[1] as same,"
        " array_agg(number) filter (where verdict = 'different') as different"
        " from ops.identity_verdict join touched using (source, source_key) group by source, source_key),"
        " called as (select source, source_key, array_agg(name order by name) as names"
        " from ops.identity_name join touched using (source, source_key) group by source, source_key),"
        " merchants as (select source, merchant, array_agg(distinct number order by number) as numbers"
        " from ops.identity_entity where merchant is not null and number is not null group by source, merchant)"
        " select source, source_key, entity.number, number_basis, coalesce(operator_uscc, ''),"
        " coalesce(merchants.numbers, '{}'), word.same, coalesce(word.different, '{}'), coalesce(called.names, '{}')"
        " from touched join ops.identity_entity as entity using (source, source_key)"
        " left join word using (source, source_key) left join called using (source, source_key)"
        " left join merchants using (source, merchant) order by source, source_key"
    ).fetchall()
    return [
        Entity(source, key, given, basis, operator, tuple(siblings), same, frozenset(different), tuple(called))
        for source, key, given, basis, operator, siblings, same, different, called in rows
    ]


# --- deciding ---------------------------------------------------------------------------------------------------------


def _settle(connection: psycopg.Connection[Any], build_no: int, entities: Sequence[Entity]) -> dict[str, int]:
    """Write what follows for each entity; returns how many are linked, wait for review or are unlinked."""
    links: list[tuple[Any, ...]] = []
    proposals: list[tuple[Any, ...]] = []
    counts = {"linked": 0, "review": 0, "unlinked": 0}
    open_questions = []
    for entity in entities:
        number, basis = _identified(entity)
        if number:
            links.append((*entity.key, number, "linked", basis, None, None, build_no))
            counts["linked"] += 1
        else:
            open_questions.append(entity)
    outcomes = _by_name(connection, open_questions)
    for entity in open_questions:
        outcome = outcomes[entity.key]
        reason = OTHER_NUMBER if entity.source == "number" else LIKELY
        wanted = [(pair.number, pair.probability, pair.evidence, reason, _details(pair)) for pair in outcome.proposals]
        several = [n for n in entity.siblings if n not in entity.different] if entity.source != "number" else []
        if len(several) > 1:
            outcome = Outcome(None, None, None, outcome.proposals)
            known = {number: entry for number, *entry in wanted}
            wanted = [
                (number, known[number][0] if number in known else 0.5, "number of the merchant's other shop",
                 SEVERAL_NUMBERS, {})
                for number in several
            ]  # fmt: skip
        state = "linked" if outcome.number else "review" if wanted else "unlinked"
        counts[state] += 1
        basis = "name" if outcome.number else None
        if entity.source != "number":
            links.append((*entity.key, outcome.number, state, basis, outcome.probability, outcome.evidence, build_no))
        proposals += [
            (*entity.key, number, reason, position, probability, evidence, Jsonb(details), build_no)
            for position, (number, probability, evidence, reason, details) in enumerate(wanted, 1)
        ]
    _write(connection, links, proposals)
    return counts


def _identified(entity: Entity) -> tuple[str | None, str | None]:
    """The number that a person, the source or the merchant's other shops give, and which of them."""
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


def _details(pair: Pair) -> dict[str, Any]:
    return {"weight": round(pair.weight, 3), "scripts": pair.scripts, "trades": pair.trades, "operator": pair.operator}


def _by_name(connection: psycopg.Connection[Any], entities: Sequence[Entity]) -> dict[Key, Outcome]:
    """What the linkage says of entities that nothing identifies."""
    of = {"\x1f".join(entity.key): entity for entity in entities}
    sources = [
        Record(called, parsed, entity.operator)
        for called, entity in of.items()
        for name in entity.names
        for parsed in names.parse(name)
    ]
    sources = [_with_operator(record) for record in sources]
    frequency = dict(
        connection.execute(
            "select key, count(distinct number) from ops.identity_key where key = any(%s) and number is not null"
            " group by key",
            [sorted({key for record in sources for key in record.name.keys})],
        ).fetchall()
    )
    chosen = sorted({key for record in sources for key in linkage.blocks(record.name.keys, frequency)})
    enterprises, registered = _enterprises(connection, chosen)
    pairs: dict[str, list[Pair]] = defaultdict(list)
    for pair in linkage.score(sources, enterprises, frequency):
        entity = of[pair.entity]
        # A number is never another name of itself, and only of one that is sure.
        if entity.source != "number" or (pair.number != entity.source_key and pair.number in registered):
            pairs[pair.entity].append(pair)
    return {
        entity.key: linkage.decide(pairs[called], entity.different, merges=entity.source != "number")
        for called, entity in of.items()
    }


def _with_operator(record: Record) -> Record:
    if not record.operator:
        return record
    return Record(record.entity, record.name.under(f"u:{record.operator}"), record.operator)


def _enterprises(connection: psycopg.Connection[Any], keys: Sequence[str]) -> tuple[list[Record], set[str]]:
    """Every name of the enterprises that have one of the keys, and which of them the register knows by a BRN."""
    rows = connection.execute(
        "select distinct k.number, name, coalesce(operator_uscc, '') from (select distinct source, source_key, number"
        " from ops.identity_key where key = any(%s) and number is not null) as k"
        " join ops.identity_entity as entity using (source, source_key)"
        " join ops.identity_name using (source, source_key) order by 1, 2, 3",
        [keys],
    ).fetchall()
    records = [
        _with_operator(Record(number, parsed, operator))
        for number, name, operator in rows
        for parsed in names.parse(name)
    ]
    registered = connection.execute(
        "select source_key from ops.identity_entity where source = 'number' and is_on_register"
        " and source_key ~ '^[0-9]{8}$' and source_key = any(%s)",
        [sorted({record.entity for record in records})],
    )
    return records, {row[0] for row in registered}


def _write(
    connection: psycopg.Connection[Any], links: Iterable[tuple[Any, ...]], proposals: Iterable[tuple[Any, ...]]
) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into ops.identity_link (source, source_key, number, state, basis, probability, evidence, build_no)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (source, source_key) do update set"
            " number = excluded.number, state = excluded.state, basis = excluded.basis,"
            " probability = excluded.probability, evidence = excluded.evidence, build_no = excluded.build_no,"
            " decided_at = clock_timestamp() where (identity_link.number, identity_link.state, identity_link.basis,"
            " identity_link.probability, identity_link.evidence) is distinct from (excluded.number, excluded.state,"
            " excluded.basis, excluded.probability, excluded.evidence)",
            list(links),
        )
        connection.execute(
            "create temporary table proposed (source text, source_key text, number text, reason text,"
            " position integer, probability double precision, evidence text, details jsonb, build_no bigint)"
            " on commit drop"
        )
        cursor.executemany("insert into proposed values (%s, %s, %s, %s, %s, %s, %s, %s, %s)", list(proposals))
    # What was accepted or rejected stays so; a later decision is a new row of ops.identity_decision.
    connection.execute(
        "insert into ops.identity_review (source, source_key, number, reason, position, probability, evidence, details,"
        " build_no) select * from proposed on conflict (source, source_key, number) do update set"
        " state = case when identity_review.state = 'withdrawn' then 'open' else identity_review.state end,"
        " reason = excluded.reason, position = excluded.position, probability = excluded.probability,"
        " evidence = excluded.evidence, details = excluded.details"
    )
    connection.execute(
        "update ops.identity_review as review set state = 'withdrawn' from touched"
        " where review.state = 'open' and review.source = touched.source and review.source_key = touched.source_key"
        " and not exists (select from proposed where proposed.source = review.source"
        " and proposed.source_key = review.source_key and proposed.number = review.number)"
    )


# --- survivorship -----------------------------------------------------------------------------------------------------


def _survivorship(connection: psycopg.Connection[Any], build_no: int) -> None:
    """Bring the map of sme_ids up to date: one row begins with each merge and ends with each split."""
    clusters, refused = _clusters(connection)
    _propose_held_apart(connection, refused, build_no)
    wanted = {number: found for number, found in clusters.items() if number != found[0]}
    current = dict(connection.execute("select number, survivor_number from ops.identity_survivor").fetchall())
    ended = [number for number, survivor in current.items() if wanted.get(number, ("", ""))[0] != survivor]
    begun = [(number, *found) for number, found in wanted.items() if current.get(number) != found[0]]
    connection.execute(
        "update ops.identity_survivorship set valid_to = clock_timestamp(), ended_build_no = %s"
        " where valid_to is null and number = any(%s)",
        [build_no, ended],
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into ops.identity_survivorship (sme_id, number, survives_as, survivor_number, basis, build_no)"
            " values (%s, %s, %s, %s, %s, %s)",
            [(sme_id(n), n, sme_id(survivor), survivor, basis, build_no) for n, survivor, basis in sorted(begun)],
        )


def _clusters(
    connection: psycopg.Connection[Any],
) -> tuple[dict[str, tuple[str, str]], list[tuple[str, str, str]]]:
    """By number that is one enterprise with others: the number that survives, and what says so. Then the pairs that are not
    put together, and why: that would make one enterprise of two that a person holds apart, by way of a third.

    A dummy UBI is made of the Companies Registry number, so it is the enterprise with that number and a BRN. What a person
    says counts first.
    """
    edges = connection.execute(
        "select dummy.source_key, min(entity.source_key), 'registry_number' from ops.identity_entity as dummy"
        " join ops.identity_entity as entity on entity.source = 'number' and entity.registry_number = dummy.source_key"
        " where dummy.source = 'number' and dummy.source_key ~ '^[CF][0-9]{7}$' and entity.source_key ~ '^[0-9]{8}$'"
        " group by dummy.source_key having count(*) = 1"
        " union all select source_key, number, 'decision' from ops.identity_verdict"
        " where source = 'number' and verdict = 'same' order by 3, 1, 2"
    ).fetchall()
    apart = {
        frozenset(row)
        for row in connection.execute(
            "select source_key, number from ops.identity_verdict where source = 'number' and verdict = 'different'"
        )
    }
    clusters: dict[str, set[str]] = {}
    basis: dict[str, str] = {}
    refused = []
    for one, other, says in edges:
        if frozenset((one, other)) in apart:
            continue
        left, right = clusters.get(one, {one}), clusters.get(other, {other})
        between = sorted(sorted(pair) for a in left for b in right if (pair := frozenset((a, b))) in apart)
        if between:
            refused.append((one, other, f"{says}, but {between[0][0]} and {between[0][1]} are held apart"))
            continue
        both = left | right
        clusters |= dict.fromkeys(both, both)
        for number in (one, other):
            basis[number] = "decision" if says == "decision" else basis.get(number, says)
    return {number: (min(clusters[number], key=_rank), says) for number, says in basis.items()}, refused


def _propose_held_apart(
    connection: psycopg.Connection[Any], refused: list[tuple[str, str, str]], build_no: int
) -> None:
    """Have a person say which word is wrong where words contradict each other; a proposal falls once they do not."""
    connection.execute(
        "update ops.identity_review set state = 'withdrawn' where state = 'open' and reason = %s and source = 'number'"
        " and not (source_key || ' ' || number) = any(%s)",
        [HELD_APART, [f"{one} {other}" for one, other, _ in refused]],
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into ops.identity_review (source, source_key, number, reason, position, probability, evidence, build_no)"
            " values ('number', %s, %s, %s, 1, 1, %s, %s) on conflict (source, source_key, number) do update set"
            " state = 'open', reason = excluded.reason, evidence = excluded.evidence",
            [(one, other, HELD_APART, evidence, build_no) for one, other, evidence in refused],
        )


def _rank(number: str) -> tuple[int, str]:
    """A BRN survives before a dummy, and that before a pseudonym; of two alike the lower number."""
    kind = 0 if number.isdigit() else 2 if number.startswith("p") else 1
    return kind, number


# --- review -----------------------------------------------------------------------------------------------------------


def reviews(state: str = "open", limit: int = 50) -> list[tuple[Any, ...]]:
    """Proposals by state, the likeliest first: id, entity, its names, number proposed, its names, probability, why."""
    with connect("builder") as connection:
        return connection.execute(
            "select review_id, source, source_key, (select string_agg(name, ' / ' order by name) from ops.identity_name"
            " where identity_name.source = review.source and identity_name.source_key = review.source_key), number,"
            " (select string_agg(name, ' / ' order by name) from ops.identity_name where source = 'number'"
            " and identity_name.source_key = review.number), round(probability::numeric, 3), evidence, reason"
            " from ops.identity_review as review where state = %s"
            " order by probability desc, source, source_key, position limit %s",
            [state, limit],
        ).fetchall()


def review(review_id: int) -> dict[str, Any]:
    """One proposal with all that speaks for it, the other proposals for its entity and the decisions on it."""
    with connect("builder", row_factory=psycopg.rows.dict_row) as connection:
        found = connection.execute("select * from ops.identity_review where review_id = %s", [review_id]).fetchone()
        if found is None:
            raise PermanentFailure(Problem(Code.IDENTITY_REVIEW, f"no proposal {review_id}"))
        entity = [found["source"], found["source_key"]]

        def called(source: str, source_key: str) -> list[str]:
            query = "select name from ops.identity_name where source = %s and source_key = %s order by name"
            return [row["name"] for row in connection.execute(query, [source, source_key])]

        others = connection.execute(
            "select review_id, number, state, probability, evidence from ops.identity_review"
            " where source = %s and source_key = %s and review_id <> %s order by position",
            [*entity, review_id],
        ).fetchall()
        decisions = connection.execute(
            "select number, verdict, reason, decided_by, decided_at from ops.identity_decision"
            " where source = %s and source_key = %s order by decision_id",
            entity,
        ).fetchall()
        return found | {
            "names": called(*entity), "number_names": called("number", found["number"]), "others": others,
            "decisions": decisions,
        }  # fmt: skip


def accept(review_id: int, reason: str, by: str) -> None:
    """Say that the entity is the enterprise proposed; its other open proposals fall. Holds from the next build on."""
    found = _proposed(review_id, reason)
    decide(*found, "same", reason, by)


def reject(review_id: int, reason: str, by: str) -> None:
    """Say that the entity is not the enterprise proposed, which is never proposed again."""
    found = _proposed(review_id, reason)
    decide(*found, "different", reason, by)


def _proposed(review_id: int, reason: str) -> tuple[str, str, str]:
    require_reason(reason, Code.IDENTITY_REASON)
    found = review(review_id)
    return found["source"], found["source_key"], found["number"]


def decide(source: str, source_key: str, number: str, verdict: str, reason: str, by: str) -> None:
    """A person's word on any entity and enterprise, proposed or not: `same` or `different`. The newest word holds."""
    require_reason(reason, Code.IDENTITY_REASON)
    if verdict not in ("same", "different"):
        raise PermanentFailure(Problem(Code.IDENTITY_VERDICT, f"{verdict!r} is neither same nor different"))
    with connect("builder", autocommit=False) as connection:
        for what in ((source, source_key), ("number", number)):
            known = "select 1 from ops.identity_entity where source = %s and source_key = %s"
            if connection.execute(known, what).fetchone() is None:
                raise PermanentFailure(Problem(Code.IDENTITY_UNKNOWN, f"no feed has shown {what[0]} {what[1]}"))
        connection.execute(
            "insert into ops.identity_decision (source, source_key, number, verdict, reason, decided_by)"
            " values (%s, %s, %s, %s, %s, %s)",
            [source, source_key, number, verdict, reason, by],
        )
        connection.execute(
            "update ops.identity_review set state = %s where source = %s and source_key = %s and number = %s",
            ["accepted" if verdict == "same" else "rejected", source, source_key, number],
        )
        if verdict == "same":
            connection.execute(
                "update ops.identity_review set state = 'withdrawn' where source = %s and source_key = %s"
                " and number <> %s and state in ('open', 'accepted')",
                [source, source_key, number],
            )
        connection.commit()
