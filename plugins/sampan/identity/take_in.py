"""Take in: bring entities, names and the keys under which they are found up to date with the batches of the current build.

All statements run in the caller's transaction. The temporary table `changed` then holds the entities that are new or have
other properties than before, with the number and the merchant that they had.
"""

from __future__ import annotations

from stdnum.cn import uscc

from sampan.database import Connection
from sampan.engine import engine
from sampan.identity import names


def run(connection: Connection, whole: bool, last_decision_id: int) -> int:
    """Take in the batches of the current build, or with `whole` all batches again. Returns how many names are new.

    Entities with a decision after `last_decision_id` count as changed.
    """
    if whole:
        for table in ("identity_key", "identity_name", "identity_link", "identity_seen", "identity_entity"):
            connection.execute(f"delete from ops.{table}")
    _read_seen(connection, "ops.batches_built" if whole else "ops.batches_to_build")
    _note_decided(connection, last_decision_id)
    _add_entities(connection)
    _update_stated(connection)
    _update_registered(connection)
    added = _add_names(connection)
    _update_operator_keys(connection)
    _add_keys(connection)
    _update_holders(connection)
    return added


def _read_seen(connection: Connection, batches: str) -> None:
    """Temporary table `seen`: what the batches say of entities, one row per entity, name, properties and batch."""
    batch_ids = [row[0] for row in connection.execute(f"select batch_id from {batches} order by batch_id")]
    connection.execute("""
        create temporary table seen (
            source text, source_key text, name text, number text, number_basis text, registry_number text, merchant text,
            operator_uscc text, is_on_register boolean, is_stated boolean, stated_on date, batch_id bigint,
            business_date date, received_at timestamptz
        ) on commit drop
    """)
    engine().insert(
        connection,
        "pg_temp.seen",
        f"""
        select
            source, source_key, name, number, number_basis, registry_number, merchant, operator_uscc,
            bool_or(is_on_register) as is_on_register,
            is_stated,
            max(stated_on) as stated_on,
            batch_id, business_date, received_at
        from staging.stg_ops__identity_names
        where batch_id in ({", ".join(map(str, batch_ids)) or "null"}) and source_key is not null
        group by
            source, source_key, name, number, number_basis, registry_number, merchant, operator_uscc, is_stated,
            batch_id, business_date, received_at
        """,
    )
    connection.execute("analyze seen")
    connection.execute("""
        insert into ops.identity_seen (feed, source, source_key)
        select distinct feed, source, source_key
        from seen
        inner join ops.batch using (batch_id)
        on conflict do nothing
    """)
    # An operator's unified social credit code with a wrong check character identifies no one.
    codes = connection.execute("select distinct operator_uscc from seen where operator_uscc is not null").fetchall()
    wrong = [code for (code,) in codes if not uscc.is_valid(code)]
    connection.execute("update seen set operator_uscc = null where operator_uscc = any(%s)", [wrong])


def _note_decided(connection: Connection, last_decision_id: int) -> None:
    """Temporary table `changed`, first with the entities that a person has decided on since the last run."""
    connection.execute("""
        create temporary table changed (
            source text, source_key text, number_before text, merchant_before text, primary key (source, source_key)
        ) on commit drop
    """)
    connection.execute(
        """
        with decided as (select source, source_key from ops.identity_decision where decision_id > %s)
        insert into changed
        select
            entity.source,
            entity.source_key,
            (
                select max(identity_key.number) from ops.identity_key
                where identity_key.source = entity.source and identity_key.source_key = entity.source_key
            ),
            entity.merchant
        from ops.identity_entity as entity
        where (entity.source, entity.source_key) in (select source, source_key from decided)
        """,
        [last_decision_id],
    )


def _add_entities(connection: Connection) -> None:
    connection.execute("""
        insert into ops.identity_entity (source, source_key, number, number_basis)
        select distinct
            source,
            source_key,
            case when source = 'number' then source_key end,
            case when source = 'number' then 'registration_number' end
        from seen
        on conflict do nothing
    """)


def _update_stated(connection: Connection) -> None:
    """For each entity the latest delivery that provides numbers wins; deliveries may arrive in any order."""
    connection.execute("""
        create temporary table stated on commit drop as
        select distinct on (source, source_key)
            seen.source,
            seen.source_key,
            case when seen.source = 'number' then seen.source_key else seen.number end as number,
            seen.number_basis, seen.registry_number, seen.merchant, seen.operator_uscc, seen.batch_id,
            seen.business_date, seen.received_at
        from seen
        inner join ops.identity_entity as entity using (source, source_key)
        where
            is_stated
            and (
                entity.stated_batch_id is null
                or (seen.business_date, seen.received_at, seen.batch_id)
                > (entity.stated_business_date, entity.stated_received_at, entity.stated_batch_id)
            )
        order by
            source, source_key, business_date desc, received_at desc, batch_id desc, (seen.number is null),
            stated_on desc, seen.number, seen.merchant
    """)
    connection.execute("""
        insert into changed
        select source, source_key, entity.number, entity.merchant
        from stated
        inner join ops.identity_entity as entity using (source, source_key)
        where
            entity.stated_batch_id is null
            or (entity.number, entity.registry_number, entity.merchant, entity.operator_uscc)
            is distinct from (stated.number, stated.registry_number, stated.merchant, stated.operator_uscc)
        on conflict do nothing
    """)
    connection.execute("""
        update ops.identity_entity as entity set
            number = stated.number,
            number_basis = case when stated.number is not null then stated.number_basis end,
            registry_number = stated.registry_number,
            merchant = stated.merchant,
            operator_uscc = stated.operator_uscc,
            stated_batch_id = batch_id,
            stated_business_date = business_date,
            stated_received_at = received_at
        from stated
        where entity.source = stated.source and entity.source_key = stated.source_key
    """)


def _update_registered(connection: Connection) -> None:
    connection.execute("""
        with listed as (select distinct source, source_key from seen where is_on_register),

        newly as (
            update ops.identity_entity as entity set is_on_register = true
            from listed
            where
                entity.source = listed.source
                and entity.source_key = listed.source_key
                and not entity.is_on_register
            returning entity.source, entity.source_key, entity.number, entity.merchant
        )

        insert into changed select * from newly on conflict do nothing
    """)


def _add_names(connection: Connection) -> int:
    """Add names, and their keys in the temporary table `new_key`. Returns how many names are new."""
    added = connection.execute("""
        insert into ops.identity_name
        select distinct source, source_key, name from seen where name is not null
        on conflict do nothing
        returning source, source_key, name
    """).fetchall()
    connection.execute("create temporary table new_key (key text, source text, source_key text) on commit drop")
    with connection.cursor().copy("copy new_key from stdin") as copy:
        for source, source_key, name in added:
            for key in {key for parsed in names.parse(name) for key in parsed.keys}:
                copy.write_row((key, source, source_key))
    connection.execute("analyze new_key")
    connection.execute("""
        insert into changed
        select distinct source, source_key, entity.number, entity.merchant
        from new_key
        inner join ops.identity_entity as entity using (source, source_key)
        on conflict do nothing
    """)
    return len(added)


def _update_operator_keys(connection: Connection) -> None:
    """The operator is a key too: of the entity rather than of a name."""
    connection.execute("""
        delete from ops.identity_key
        using changed
        where identity_key.source = changed.source and identity_key.source_key = changed.source_key and key like 'u:%'
    """)
    connection.execute("""
        insert into new_key
        select 'u:' || operator_uscc, source, source_key
        from changed
        inner join ops.identity_entity using (source, source_key)
        where operator_uscc is not null
    """)


def _add_keys(connection: Connection) -> None:
    connection.execute("""
        insert into ops.identity_key (key, source, source_key, number)
        select distinct key, source, source_key, entity.number
        from new_key
        inner join ops.identity_entity as entity using (source, source_key)
        on conflict do nothing
    """)


def _update_holders(connection: Connection) -> None:
    """Names belong to the enterprise that a person says the entity is, else to the one that its source says it is."""
    connection.execute("""
        with verdicts as (
            select
                source,
                source_key,
                entity.number,
                (array_agg(verdict.number order by decision_id desc) filter (where verdict = 'same'))[1] as same,
                coalesce(bool_or(verdict = 'different' and verdict.number = entity.number), false) as is_rejected
            from changed
            inner join ops.identity_entity as entity using (source, source_key)
            left join ops.identity_verdict as verdict using (source, source_key)
            group by source, source_key, entity.number
        ),

        holders as (
            select
                source,
                source_key,
                case
                    when source = 'number' then number
                    else coalesce(same, case when not is_rejected then number end)
                end as number
            from verdicts
        )

        update ops.identity_key set number = holders.number
        from holders
        where
            identity_key.source = holders.source
            and identity_key.source_key = holders.source_key
            and identity_key.number is distinct from holders.number
    """)
