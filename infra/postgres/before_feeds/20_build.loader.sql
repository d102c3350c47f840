-- Builds, releases and the results of their gates.
create table if not exists ops.build (
    build_no bigint generated always as identity primary key,
    state text not null default 'open' check (state in ('open', 'built', 'released', 'failed', 'as_known')),
    full_refresh boolean not null default false,
    as_of_date date not null,
    opened_at timestamptz not null default clock_timestamp(),
    built_at timestamptz,
    ended_at timestamptz,
    problem jsonb,
    constraint failed_has_a_reason check (state <> 'failed' or problem is not null)
);
alter table ops.build drop constraint if exists build_state_check;
alter table ops.build add constraint build_state_check
check (state in ('open', 'built', 'released', 'failed', 'as_known'));
create unique index if not exists build_one_at_a_time on ops.build ((true)) where state in ('open', 'built');
comment on table ops.build is 'One row per build of the marts by dbt; its number becomes the number of the release made from it.';
comment on column ops.build.state is 'open, built, released or failed; as_known for marts as known on an earlier date, which never become a release.';
comment on column ops.build.as_of_date is 'Latest business date among the batches of this build and all earlier ones.';
comment on column ops.build.full_refresh is 'Whether the persistent tables are rebuilt from all published batches.';
alter table ops.build add column if not exists seeds_sha256 text;
comment on column ops.build.seeds_sha256 is 'SHA-256 of the seeds that persistent tables depend on; a change rebuilds them.';
alter table ops.build add column if not exists engine text not null default 'postgres';
comment on column ops.build.engine is 'Where the models are computed; the persistent tables of another engine are rebuilt.';

create table if not exists ops.build_batch (
    build_no bigint not null references ops.build,
    batch_id bigint not null references ops.batch,
    primary key (build_no, batch_id)
);
create index if not exists build_batch_by_batch on ops.build_batch (batch_id);
alter table ops.build_batch add column if not exists is_withdrawn boolean not null default false;
alter table ops.build_batch add column if not exists counts_from timestamptz;
comment on table ops.build_batch is 'The published batches that a build takes in: those that no earlier successful build took in as they are now. And the withdrawn ones that it takes out.';
comment on column ops.build_batch.is_withdrawn is 'Whether the build takes the batch out. Such a build is a full refresh.';
comment on column ops.build_batch.counts_from is 'ops.batch.counts_from as the build knows it; null in builds of earlier versions.';

create table if not exists ops.build_step (
    build_no bigint not null references ops.build,
    step text not null,
    state text not null default 'running' check (state in ('waiting', 'running', 'done', 'failed')),
    token bigint not null default 1,
    started_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    primary key (build_no, step)
);
alter table ops.build_step drop constraint if exists build_step_state_check;
alter table ops.build_step add constraint build_step_state_check
check (state in ('waiting', 'running', 'done', 'failed', 'carried'));
comment on table ops.build_step is 'One row per step of a build, with its state.';
comment on column ops.build_step.state is 'waiting: to be run again, because the build has taken in more batches since. carried: it failed, or its marts may not be shown, and the release keeps those of the release before.';
comment on column ops.build_step.token is 'Fencing token: every claim raises it; a write with an older token is refused.';

create table if not exists ops.build_node (
    build_no bigint not null references ops.build,
    step text not null,
    node text not null,
    resource_type text not null,
    status text not null,
    seconds double precision not null,
    rows bigint,
    failures bigint,
    message text,
    recorded_at timestamptz not null default clock_timestamp(),
    primary key (build_no, step, node)
);
comment on table ops.build_node is 'Latest result of every dbt node of a build. Messages contain no values of the data.';

create table if not exists ops.release (
    release_no bigint primary key references ops.build,
    as_of_date date not null,
    rows jsonb not null,
    released_at timestamptz not null default clock_timestamp(),
    dropped_at timestamptz
);
comment on table ops.release is 'One row per release: a complete set of marts that passed its gate, kept as schema release_<number> until it is dropped.';
comment on column ops.release.rows is 'Number of rows of each mart.';

create table if not exists ops.release_activation (
    activation_no bigint generated always as identity primary key,
    release_no bigint not null references ops.release,
    kind text not null check (kind in ('release', 'rollback')),
    activated_at timestamptz not null default clock_timestamp()
);
comment on table ops.release_activation is 'When each release was shown in the schema marts, or shown again by a rollback. The last row is what readers see now.';

create table if not exists ops.gate_result (
    suite text not null,
    batch_id bigint references ops.batch,
    build_no bigint references ops.build,
    rule text not null,
    description text not null,
    expectation text not null,
    column_name text,
    severity text not null check (severity in ('critical', 'error', 'warning', 'info')),
    success boolean not null,
    kwargs jsonb not null,
    observed jsonb,
    checked_at timestamptz not null default clock_timestamp(),
    constraint of_a_batch_or_a_build check (num_nonnulls(batch_id, build_no) = 1),
    unique nulls not distinct (suite, batch_id, build_no, rule)
);
create index if not exists gate_result_by_time on ops.gate_result (suite, checked_at desc);
comment on table ops.gate_result is 'Result of each expectation, for a batch or for a build of the marts.';
comment on column ops.gate_result.observed is 'Observed counts, sums and shares; never a value of a row.';

create table if not exists ops.carried (
    build_no bigint not null references ops.build,
    mart text not null,
    step text not null,
    from_release_no bigint not null references ops.release,
    problem jsonb not null,
    carried_at timestamptz not null default clock_timestamp(),
    primary key (build_no, mart)
);
comment on table ops.carried is 'Marts that a release has from an earlier one, because their family could not be built or may not be shown.';
comment on column ops.carried.from_release_no is 'The release that the rows were made for.';

create table if not exists ops.finding_decision (
    decision_id bigint generated always as identity primary key,
    mart text not null,
    rule text not null,
    build_no bigint not null references ops.build,
    verdict text not null check (verdict in ('accepted', 'rejected')),
    reason text not null check (reason <> ''),
    decided_by text not null,
    decided_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz
);
comment on table ops.finding_decision is 'What people decided on critical findings of marts, and why. The newest decision on a rule counts.';
comment on column ops.finding_decision.build_no is 'Newest build whose gate had the finding.';
comment on column ops.finding_decision.ended_at is 'When an acceptance ended: a later gate found the rule met.';

create or replace view ops.finding_accepted as
select
    mart,
    rule
from (
    select
        mart,
        rule,
        verdict,
        ended_at,
        row_number() over (partition by mart, rule order by decision_id desc) as recency
    from ops.finding_decision
) as decided
where recency = 1 and verdict = 'accepted' and ended_at is null;
comment on view ops.finding_accepted is 'Critical rules of marts whose breach a person has accepted, until a gate finds them met again.';

create table if not exists ops.as_known (
    build_no bigint primary key references ops.build,
    known_on date not null,
    known_until timestamptz not null,
    basis text not null check (basis in ('published', 'delivered')),
    schema_name text not null,
    deleted_batches bigint not null,
    rows jsonb,
    made_at timestamptz,
    dropped_at timestamptz
);
alter table ops.as_known add column if not exists deleted_batches bigint not null default 0;
create unique index if not exists as_known_by_schema on ops.as_known (schema_name) where dropped_at is null;
comment on table ops.as_known is 'Marts as known on an earlier date, each in its own schema; see ADR 0021.';
comment on column ops.as_known.known_until is 'Decisions of people and of the linkage after this time are ignored; infinity when none are.';
comment on column ops.as_known.basis is 'published: batches published by known_on; delivered: batches with business dates up to known_on.';
comment on column ops.as_known.deleted_batches is 'Number of batches known at that time that retention has deleted since; their rows are missing.';
comment on column ops.as_known.rows is 'Number of rows of each mart; null while they are being built.';

-- A session that builds marts as known on an earlier date has that build's number in the setting sampan.as_known. For all other
-- sessions the views below show the current build.
-- These functions are parsed when they are made: the search path of a session does not change what their names mean.
create or replace function ops.as_known_no() returns bigint
language sql stable
return nullif(current_setting('sampan.as_known', true), '')::bigint;

create or replace function ops.known_until() returns timestamptz
language sql stable
return coalesce((select known_until from ops.as_known where build_no = ops.as_known_no()), 'infinity');
comment on function ops.known_until is 'Decisions after this time are ignored in this session: infinity, unless the session builds marts as known on an earlier date.';

create or replace view ops.open_build as
select
    build_no,
    as_of_date,
    full_refresh,
    opened_at
from ops.build
where case when ops.as_known_no() is null then state in ('open', 'built') else build_no = ops.as_known_no() end;
comment on view ops.open_build is 'The current build: at most one row.';

create or replace view ops.batches_to_build as
select
    build_batch.batch_id,
    batch.feed,
    batch.business_date
from ops.build_batch
inner join ops.open_build using (build_no)
inner join ops.batch using (batch_id)
where not build_batch.is_withdrawn;
comment on view ops.batches_to_build is 'The batches that incremental models read in the current build.';

create or replace view ops.batches_built as
with taken as (
    select
        build_batch.batch_id,
        build_batch.is_withdrawn,
        min(build_batch.build_no) over (partition by build_batch.batch_id) as first_build_no,
        row_number() over (partition by build_batch.batch_id order by build_batch.build_no desc) as recency
    from ops.build_batch
    inner join ops.build using (build_no)
    where case when ops.as_known_no() is null then build.state not in ('failed', 'as_known') else build.build_no = ops.as_known_no() end
)

select
    taken.batch_id,
    batch.feed,
    batch.business_date,
    taken.first_build_no as build_no,
    case when batch.returned_at < ops.known_until() then batch.counts_from else batch.received_at end as counts_from
from taken
inner join ops.batch using (batch_id)
where taken.recency = 1 and not taken.is_withdrawn;
comment on view ops.batches_built is 'Every batch that the persistent tables contain once the current build is done.';

-- A replay brings back rows of the delivery at the start of its chain, and stands or falls with it.
create or replace view ops.batch_delivery as
with recursive chains as (
    select
        batch_id,
        batch_id as delivery_id
    from ops.batch
    where origin = 'delivery'
    union all
    select
        batch.batch_id,
        chains.delivery_id
    from ops.batch
    inner join chains on batch.replays = chains.batch_id
)

select
    batch_id,
    delivery_id
from chains;
comment on view ops.batch_delivery is 'The delivery at the start of the chain of replays that a batch ends, itself for a delivery.';

create or replace view ops.batches_waiting as
with taken as (
    select
        build_batch.batch_id,
        build_batch.is_withdrawn,
        build_batch.counts_from,
        build.state,
        row_number() over (partition by build_batch.batch_id, build.state = 'failed' order by build_batch.build_no desc) as recency
    from ops.build_batch
    inner join ops.build using (build_no)
    where build.state <> 'as_known'
)

select
    batch.batch_id,
    batch.feed,
    batch.business_date,
    batch.counts_from,
    batch.state = 'withdrawn' as is_withdrawn
from ops.batch
left join taken on batch.batch_id = taken.batch_id and taken.recency = 1 and taken.state <> 'failed'
where
    batch.state = 'published'
    and (taken.is_withdrawn is not false or batch.counts_from > coalesce(taken.counts_from, batch.received_at))
    or batch.state = 'withdrawn' and taken.is_withdrawn is not true
    and (taken.batch_id is not null or batch.batch_id in (select failed.batch_id from taken as failed where failed.state = 'failed'));
comment on view ops.batches_waiting is 'What a new build would take in, or take out: published batches that no successful build took in as they are now, and withdrawn ones that the persistent tables may still contain.';

create or replace view ops.release_batch as
with taken as (
    select
        release.release_no,
        release.released_at,
        build_batch.batch_id,
        build_batch.is_withdrawn,
        min(build.build_no) over (partition by release.release_no, build_batch.batch_id) as since_release_no,
        row_number() over (partition by release.release_no, build_batch.batch_id order by build.build_no desc) as recency
    from ops.release
    inner join ops.build on release.release_no >= build.build_no and build.state = 'released'
    inner join ops.build_batch using (build_no)
)

select
    taken.release_no,
    batch.feed,
    batch.business_date,
    batch.batch_id,
    batch.origin,
    batch.source_uri,
    batch.landing_uri,
    batch.rows_published,
    taken.since_release_no
from taken
inner join ops.batch using (batch_id)
where taken.recency = 1 and not taken.is_withdrawn and (batch.deleted_at is null or batch.deleted_at > taken.released_at);
comment on view ops.release_batch is 'One row per release and batch that it contains, with the file, including the batches of earlier releases.';

-- Sessions of a build carry their claim as `build_no/step/token`. A session that lost its claim is refused before each model,
-- inside the model's own transaction. The row stays locked until that ends, so a new claim waits for it.
create or replace function ops.assert_step_claimed() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    claim text[] := string_to_array(nullif(current_setting('sampan.claim', true), ''), '/');
    current_token bigint;
begin
    if claim is null then
        return;
    end if;
    select token into current_token from ops.build_step
    where build_no = claim[1]::bigint and step = claim[2] for share;
    if current_token is distinct from claim[3]::bigint then
        raise exception 'step % of build % was claimed by another worker (claim %, now %)', claim[2], claim[1], claim[3], current_token
            using errcode = 'object_in_use';
    end if;
end $$;

-- The views of `marts` call this. To a snapshot older than the release its tables look empty, and one older than a rollback has
-- read the release that it took away: raise an error instead.
create or replace function ops.assert_release_visible(release_no bigint, activation_no bigint) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (
        select from ops.release_activation as a where a.activation_no = assert_release_visible.activation_no
    ) then
        raise exception 'this transaction started before release % was shown and cannot see it', release_no
            using errcode = 'serialization_failure',
                  hint = 'Start a new transaction, or read an earlier release from its schema release_<number>.';
    end if;
    return true;
end $$;

-- The views of earlier versions know their release only.
create or replace function ops.assert_release_visible(release_no bigint) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
return ops.assert_release_visible(
    $1, (select min(shown.activation_no) from ops.release_activation as shown where shown.release_no = $1)
);

grant select on all tables in schema ops to sampan_builder;
grant insert, update on ops.build, ops.build_batch, ops.build_step, ops.build_node, ops.release, ops.release_activation,
ops.as_known, ops.gate_result, ops.carried, ops.finding_decision to sampan_builder;
grant insert on ops.alert to sampan_builder;
grant delete on ops.carried to sampan_builder;
grant delete on ops.gate_result to sampan_builder;
revoke delete on ops.build_step from sampan_builder;
