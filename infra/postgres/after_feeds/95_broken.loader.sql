-- What is broken now: one truth for `sampan status`, the status page, the metrics and the alerts.
create or replace function ops.broken(as_of timestamptz)
returns table (
    subject text, state text, first_date date, last_date date, deliveries bigint, batch_id bigint, since timestamptz,
    problem jsonb
)
language sql stable set search_path = pg_catalog, pg_temp as $$
with late as (
    select
        day.*,
        -- The same for days of one state that follow each other.
        row_number() over (partition by day.feed order by day.business_date)
        - row_number() over (partition by day.feed, day.state order by day.business_date) as span
    from ops.feed_days(as_of) as day
),

live as (
    select release_no from ops.release_activation order by activation_no desc limit 1
),

newest as (
    select build_no, state, problem, ended_at from ops.build
    where state <> 'as_known'
    order by build_no desc limit 1
)

select
    held.feed,
    case when held.batch_id is null then 'refused' else 'held' end,
    held.business_date,
    held.business_date,
    1,
    held.batch_id,
    held.received_at,
    held.problem
from ops.open_problem as held
union all
select
    late.feed,
    late.state,
    min(late.business_date),
    max(late.last_date),
    count(*),
    null,
    min(case when late.state = 'late_here' then late.deadline_at else late.due_at end),
    (select poll.problem from ops.feed_poll as poll where poll.feed = late.feed)
from late
where late.state in ('late_here', 'late_at_partner')
group by late.feed, late.state, late.span
union all
select
    carried.step,
    'carried',
    null,
    null,
    count(*),
    null,
    min((
        select min(release.released_at) from ops.release
        inner join ops.carried as same on same.build_no = release.release_no
        where same.mart = carried.mart and same.from_release_no = carried.from_release_no
    )),
    (array_agg(carried.problem order by carried.mart))[1]
from ops.carried
inner join live on live.release_no = carried.build_no
group by carried.step
union all
select 'build', 'failed', null, null, 1, null, newest.ended_at, newest.problem
from newest
where newest.state = 'failed'
union all
select
    'build',
    'failed',
    null,
    null,
    1,
    null,
    min(step.ended_at),
    jsonb_build_object(
        'rule', 'build.failed',
        'message',
        format('build %s: %s failed', newest.build_no, string_agg(step.step, ', ' order by step.step))
    )
from newest
inner join ops.build_step as step on newest.build_no = step.build_no and step.state = 'failed'
where newest.state in ('open', 'built')
group by newest.build_no
$$;
comment on function ops.broken is
'What is broken at a time. subject: a feed, a step of the build whose marts wait, or build. state: held (a batch), refused
(when landing), late_here, late_at_partner (of days in a row), carried (marts of the release before) or failed.
deliveries: how many, or how many marts. since: when the delivery was received, or was due, or the release or failure.';

create or replace view ops.broken_now as
select * from ops.broken(ops.now());
comment on view ops.broken_now is 'What is broken now, as ops.broken says.';

grant select on all tables in schema ops to sampan_builder;
-- But for the addresses of objects, which are the partner's text as it came: who fetches and deletes needs them.
revoke select on ops.delivery, ops.deletion from sampan_builder;
grant select (etag, feed, business_date, received_at, bytes, seen_at, batch_id, problem, deleted_at, refused_at)
on ops.delivery to sampan_builder;
grant select (
    deletion_id, kind, feed, batch_id, release_no, reason, content_sha256, rows_raw, rows_quarantined, rows_derived, begun_at,
    database_at, verified_at, looked_at
) on ops.deletion to sampan_builder;
