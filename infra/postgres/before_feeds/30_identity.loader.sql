-- Identity of enterprises: names, links, reviews and decisions.
create table if not exists ops.identity_run (
    run_no bigint generated always as identity primary key,
    build_no bigint references ops.build,
    model text not null,
    whole boolean not null,
    last_decision_id bigint not null,
    counts jsonb not null,
    ran_at timestamptz not null default clock_timestamp()
);
comment on table ops.identity_run is 'One row per run of the linkage: the model it used and counts of what it did.';
comment on column ops.identity_run.model is 'Fingerprint of the linkage model; when it changes, everything is linked again.';

create table if not exists ops.identity_entity (
    source text not null,
    source_key text not null,
    number text,
    number_basis text,
    registry_number text,
    merchant text,
    operator_uscc text,
    is_on_register boolean not null default false,
    stated_batch_id bigint references ops.batch,
    stated_business_date date,
    stated_received_at timestamptz,
    primary key (source, source_key)
);
create index if not exists identity_entity_by_merchant on ops.identity_entity (source, merchant) where merchant is not null;
create index if not exists identity_entity_by_number on ops.identity_entity (number);
comment on table ops.identity_entity is 'One row per enterprise, shop, certificate holder or similar in the feeds, as identified by its own source.';
comment on column ops.identity_entity.number is 'Registration number according to the newest delivery; null if no delivery has one.';
comment on column ops.identity_entity.registry_number is 'Former Companies Registry number with the prefix of a dummy UBI, if the register has it.';
comment on column ops.identity_entity.operator_uscc is 'Unified social credit code of the Mainland operator, if its check character is valid.';

create table if not exists ops.identity_name (
    source text not null,
    source_key text not null,
    name text not null,
    primary key (source, source_key, name)
);
comment on table ops.identity_name is 'Every name of an entity in any feed.';

create table if not exists ops.identity_seen (
    feed text not null,
    source text not null,
    source_key text not null,
    primary key (feed, source, source_key)
);
comment on table ops.identity_seen is 'Feeds that contain an entity.';

create table if not exists ops.identity_key (
    key text not null,
    source text not null,
    source_key text not null,
    number text,
    primary key (source, source_key, key)
);
create index if not exists identity_key_by_key on ops.identity_key (key, number);
comment on table ops.identity_key is 'Lookup keys of the names of an entity, and its registration number by decision or by its source.';

create table if not exists ops.identity_link (
    source text not null,
    source_key text not null,
    number text,
    state text not null check (state in ('linked', 'review', 'unlinked')),
    basis text check (basis in ('registration_number', 'festival_registration', 'same_merchant', 'name', 'decision')),
    probability double precision check (probability between 0 and 1),
    evidence text,
    build_no bigint references ops.build,
    decided_at timestamptz not null default clock_timestamp(),
    primary key (source, source_key),
    constraint linked_has_a_number check ((state = 'linked') = (number is not null and basis is not null))
);
comment on table ops.identity_link is 'Enterprise that each entity was linked to and on what basis; or that it awaits review, or has no match.';

create table if not exists ops.identity_link_version (
    version_id bigint generated always as identity primary key,
    source text not null,
    source_key text not null,
    number text,
    state text not null,
    basis text,
    probability double precision,
    evidence text,
    valid_from timestamptz not null default now(),
    valid_to timestamptz
);
create index if not exists identity_link_version_now on ops.identity_link_version (source, source_key) where valid_to is null;
comment on table ops.identity_link_version is 'History of the links: each row with its period of validity; the newest row of an entity is its current link.';

create or replace function ops.keep_identity_link() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_op in ('UPDATE', 'DELETE') then
        update ops.identity_link_version as version set valid_to = now() from before
        where version.source = before.source and version.source_key = before.source_key and version.valid_to is null;
    end if;
    if tg_op in ('INSERT', 'UPDATE') then
        insert into ops.identity_link_version (source, source_key, number, state, basis, probability, evidence)
        select source, source_key, number, state, basis, probability, evidence from after;
    end if;
    return null;
end $$;
create or replace trigger keep_inserted after insert on ops.identity_link
referencing new table as after for each statement execute function ops.keep_identity_link();
create or replace trigger keep_updated after update on ops.identity_link
referencing old table as before new table as after for each statement execute function ops.keep_identity_link();
create or replace trigger keep_deleted after delete on ops.identity_link
referencing old table as before for each statement execute function ops.keep_identity_link();
insert into ops.identity_link_version (source, source_key, number, state, basis, probability, evidence, valid_from)
select
    source,
    source_key,
    number,
    state,
    basis,
    probability,
    evidence,
    decided_at
from ops.identity_link as link
where not exists (
        select from ops.identity_link_version as version
        where version.source = link.source and version.source_key = link.source_key and version.valid_to is null
    );

create or replace view ops.identity_link_known as
select
    source,
    source_key,
    number,
    state,
    basis,
    probability,
    evidence
from ops.identity_link
where ops.as_known_no() is null
union all
select
    source,
    source_key,
    number,
    state,
    basis,
    probability,
    evidence
from ops.identity_link_version
where ops.as_known_no() is not null and valid_from <= ops.known_until()
    and (valid_to is null or valid_to > ops.known_until());
comment on view ops.identity_link_known is 'Current links or, in a session that builds marts as known on an earlier date, those of that time.';

create table if not exists ops.identity_review (
    review_id bigint generated always as identity primary key,
    source text not null,
    source_key text not null,
    number text not null,
    state text not null default 'open' check (state in ('open', 'accepted', 'rejected', 'withdrawn')),
    reason text not null,
    position integer not null,
    probability double precision not null,
    evidence text not null,
    details jsonb not null default '{}',
    build_no bigint references ops.build,
    proposed_at timestamptz not null default clock_timestamp(),
    unique (source, source_key, number)
);
create index if not exists identity_review_open on ops.identity_review (source, source_key) where state = 'open';
comment on table ops.identity_review is 'Proposed links that are likely but not certain and await review. A proposal keeps its number.';

create table if not exists ops.identity_decision (
    decision_id bigint generated always as identity primary key,
    source text not null,
    source_key text not null,
    number text not null,
    verdict text not null check (verdict in ('same', 'different')),
    reason text not null check (reason <> ''),
    decided_by text not null,
    decided_at timestamptz not null default clock_timestamp()
);
create index if not exists identity_decision_by_entity on ops.identity_decision (source, source_key, number, decision_id);
comment on table ops.identity_decision is 'Decisions by people: the newest decision on a pair applies to every later run. Rows are never changed.';

create table if not exists ops.identity_survivorship (
    sme_id text not null,
    number text not null,
    survives_as text not null,
    survivor_number text not null,
    basis text not null check (basis in ('registry_number', 'decision')),
    build_no bigint references ops.build,
    valid_from timestamptz not null default clock_timestamp(),
    valid_to timestamptz,
    ended_build_no bigint references ops.build,
    primary key (sme_id, valid_from),
    constraint nobody_survives_as_itself check (sme_id <> survives_as)
);
create unique index if not exists identity_survivorship_now on ops.identity_survivorship (sme_id) where valid_to is null;
comment on table ops.identity_survivorship is 'sme_ids that were merged into another because both are one enterprise. Rows with valid_to were split again.';

create or replace view ops.identity_survivor as
select
    sme_id,
    number,
    survives_as,
    survivor_number,
    basis,
    valid_from
from ops.identity_survivorship
where valid_from <= ops.known_until() and (valid_to is null or valid_to > ops.known_until());
comment on view ops.identity_survivor is 'Merged sme_ids: current or, in a session that builds marts as known on an earlier date, of that time.';

create or replace view ops.identity_verdict as
select distinct on (source, source_key, number)
    source,
    source_key,
    number,
    verdict,
    decision_id
from ops.identity_decision
order by source asc, source_key asc, number asc, decision_id desc;
comment on view ops.identity_verdict is 'Newest decision on each pair.';

create or replace view ops.waits_for_build as
select
    'batch' as kind,
    greatest(published_at, batch.counts_from, withdrawn_at, undone_at) as since
from ops.batches_waiting
inner join ops.batch using (batch_id)
left join ops.withdrawal using (batch_id)
union all
select
    'finding' as kind,
    finding_decision.decided_at as since
from ops.finding_accepted
inner join ops.finding_decision using (mart, rule)
inner join ops.build using (build_no)
where
    finding_decision.verdict = 'accepted' and finding_decision.ended_at is null
    and build_no = (select max(newest.build_no) from ops.build as newest where newest.state <> 'as_known')
    and build.state in ('failed', 'released')
union all
select
    'link' as kind,
    decided_at as since
from ops.identity_decision
where decision_id > (select last_decision_id from ops.identity_run order by run_no desc limit 1);
comment on view ops.waits_for_build is 'What a new build would take in: batches published or withdrawn, findings of the newest build that were accepted, and decisions on links.';

grant select on all tables in schema ops to sampan_builder;
grant insert, update, delete on ops.identity_entity, ops.identity_name, ops.identity_seen, ops.identity_key,
ops.identity_link to sampan_builder;
grant insert, update on ops.identity_review, ops.identity_survivorship to sampan_builder;
grant insert on ops.identity_run, ops.identity_decision to sampan_builder;
