-- Which deliveries are due when, and their state.
create table if not exists ops.feed (
    feed text primary key,
    partner text not null,
    title text not null,
    source_kind text not null check (source_kind in ('s3', 'api')),
    calendar_days text not null check (calendar_days in ('business', 'daily', 'weekly', 'monthly', 'event')),
    calendar_day integer,
    due_at time not null,
    timezone text not null,
    missing text not null check (missing in ('late', 'accept')),
    deadline_minutes integer not null,
    added_at timestamptz not null default clock_timestamp()
);
comment on table ops.feed is 'Release calendar of each feed, from its contract; written by `sampan init`.';
comment on column ops.feed.calendar_day is 'Day of the week (1 Monday) of a weekly delivery, day of the month of a monthly one.';

create table if not exists ops.holiday (
    day date primary key,
    name text not null
);
comment on table ops.holiday is 'General holidays of Hong Kong according to the software; for years in the feed hk_public_holidays, the feed applies.';

create table if not exists ops.closure (
    day date not null,
    feed text,
    reason text not null check (reason <> ''),
    decided_by text not null,
    decided_at timestamptz not null default clock_timestamp(),
    unique nulls not distinct (day, feed)
);
comment on table ops.closure is 'Days for which nothing is due, for one feed or all, such as a typhoon or a partner that was closed.';

create table if not exists ops.feed_poll (
    feed text primary key,
    polled_at timestamptz not null,
    problem jsonb
);
alter table ops.feed_poll add column if not exists wait_until timestamptz;
comment on column ops.feed_poll.wait_until is 'Until when the API asked not to be asked again (Retry-After), an hour at most.';
comment on table ops.feed_poll is 'One row per feed: when the platform last polled it for deliveries and, if its API failed, the problem.';

create table if not exists ops.clock (
    stands_at timestamptz not null
);
create unique index if not exists clock_is_one on ops.clock ((true));
comment on table ops.clock is 'At most one row: a fixed time used instead of now for freshness, business dates and API requests, for simulated data and for looking back.
While it is set, a delivery that says when it was sent (metadata sent-at) was received then.';

create or replace function ops.now() returns timestamptz
language sql stable
return coalesce((select stands_at from ops.clock), clock_timestamp());
comment on function ops.now is 'The time used for freshness: that of ops.clock or, if it is not set, the current time.';

alter table ops.build add column if not exists judged_at timestamptz not null default clock_timestamp();
comment on column ops.build.judged_at is 'Time used for the freshness of its feeds.';

create or replace view ops.general_holiday as
with listed as (
    select
        extract(year from starts_on)::integer as year,
        generate_series(starts_on, ends_on - 1, interval '1 day')::date as day,
        summary,
        business_date,
        counts_from,
        batch_id
    from raw.hk_public_holidays
    inner join ops.batch on batch_id = _batch_id
    where language = 'en' and state <> 'withdrawn'
),

newest as (
    select distinct on (year)
        year,
        batch_id
    from listed order by year asc, business_date desc, counts_from desc, batch_id desc
)

select distinct
    day,
    summary as name,
    'hk_public_holidays' as source
from listed
inner join newest using (year, batch_id)
union all
select
    day,
    name,
    'software' as source
from ops.holiday
where extract(year from day)::integer not in (select year from newest);
comment on view ops.general_holiday is 'General holidays: from the feed hk_public_holidays for the years it covers, else from the software.';

-- A slot is an expected delivery: for one business date, or for the days between two dates of a weekly or monthly
-- calendar. A partner delivers on the morning of the next business day, or next date of its calendar; an API is polled
-- on the day itself. Deadline: the time by which the platform must have published a delivery that was on time.
create or replace function ops.feed_days(as_of timestamptz, only_built boolean default false)
returns table (
    feed text, business_date date, last_date date, due_at timestamptz, deadline_at timestamptz, state text, deliveries
    bigint, held_deliveries bigint, first_received_at timestamptz, published_at timestamptz, rows_published bigint,
    rows_late bigint
)
language sql stable set search_path = pg_catalog, pg_temp as $$
with feeds as (
    select
        feed.*,
        least(firsts.day, cast(timezone(feed.timezone, feed.added_at) as date)) as first_date,
        cast(timezone(feed.timezone, as_of) as date) as today,
        greatest(feed_poll.polled_at, firsts.landed_at) as polled_at
    from ops.feed
    left join (
        select
            batch.feed,
            min(batch.business_date) filter (where batch.state <> 'withdrawn') as day,
            max(batch.landed_at) as landed_at
        from ops.batch
        group by batch.feed
    ) as firsts using (feed)
    left join ops.feed_poll using (feed)
),

days as (
    select
        cast(day as date) as day,
        extract(isodow from day) < 6
        and day not in (select holiday.day from ops.general_holiday as holiday)
        and day not in (select closure.day from ops.closure where closure.feed is null) as is_business
    from generate_series(
        (select min(first_date) - 62 from feeds), (select max(today) + 62 from feeds), interval '1 day'
    ) as day
),

business as (
    select day, lead(day) over (order by day) as next_day from days where is_business
),

scheduled as (
    select feeds.feed, days.day, lead(days.day) over (partition by feeds.feed order by days.day) as next_day
    from feeds
    inner join days
        on case feeds.calendar_days
            when 'daily' then true
            when 'weekly' then extract(isodow from days.day) = feeds.calendar_day
            when 'monthly' then extract(day from days.day) = feeds.calendar_day
            else false
        end
),

slots as (
    select
        feeds.feed,
        business.day as business_date,
        business.day as last_date,
        case feeds.source_kind when 'api' then business.day else business.next_day end as due_on
    from feeds
    inner join business on business.day between feeds.first_date and feeds.today
    where feeds.calendar_days = 'business'
    union all
    select
        feeds.feed,
        scheduled.day,
        scheduled.next_day - 1,
        case
            when feeds.calendar_days = 'daily' then case feeds.source_kind when 'api' then scheduled.day else scheduled.next_day end
            else (
                select min(business.day) from business
                where business.day >= case feeds.source_kind when 'api' then scheduled.day else scheduled.next_day end
            )
        end
    from feeds
    inner join scheduled on feeds.feed = scheduled.feed
    where scheduled.next_day > feeds.first_date and scheduled.day <= feeds.today
),

items as (
    select
        batch.feed,
        batch.business_date,
        case
            when batch.state = 'held' then 'held'
            when batch.state not in ('published', 'withdrawn') or (only_built and built.batch_id is null) then 'on_the_way'
            else 'published'
        end as state,
        batch.received_at,
        batch.published_at,
        batch.rows_published
    from ops.batch
    left join ops.batches_built as built on only_built and batch.batch_id = built.batch_id
    where
        batch.origin = 'delivery' and batch.received_at <= ops.known_until()
        and (batch.rejected_at is null or batch.rejected_at > ops.known_until())
        and (batch.state <> 'withdrawn' or ops.as_known_no() is not null and built.batch_id is not null)
    union all
    select
        delivery.feed,
        delivery.business_date,
        case when delivery.problem is null then 'on_the_way' else 'held' end,
        delivery.received_at,
        null,
        null
    from ops.delivery
    where delivery.batch_id is null and delivery.business_date is not null and delivery.received_at <= ops.known_until()
        and delivery.problem ->> 'rule' is distinct from 'delivery.marker'
),

by_slot as (
    select
        slots.feed,
        slots.business_date,
        count(*) as deliveries,
        count(*) filter (where items.state = 'held') as held_deliveries,
        count(*) filter (where items.state = 'on_the_way') as deliveries_on_the_way,
        min(items.received_at) filter (where items.state = 'published') as first_received_at,
        min(items.published_at) filter (where items.state = 'published') as published_at,
        sum(items.rows_published) filter (where items.state = 'published') as rows_published,
        (array_agg(items.rows_published order by items.received_at) filter (where items.state = 'published'))[1] as first_rows
    from slots
    cross join lateral generate_series(slots.business_date, slots.last_date, interval '1 day') as of_slot (day)
    inner join items on slots.feed = items.feed and items.business_date = cast(of_slot.day as date)
    group by slots.feed, slots.business_date
),

-- An API is polled as of a day and also returns the days before: what a later response covers is not missing.
answered as (
    select items.feed, max(items.business_date) as through
    from items
    inner join feeds on items.feed = feeds.feed
    where feeds.source_kind = 'api' and items.state = 'published'
    group by items.feed
),

timed as (
    select
        slots.*,
        feeds.missing,
        feeds.polled_at,
        timezone(feeds.timezone, slots.due_on + feeds.due_at) as due_at,
        timezone(feeds.timezone, slots.due_on + feeds.due_at) + make_interval(mins => feeds.deadline_minutes) as deadline_at,
        coalesce(answered.through >= slots.business_date, false) as is_answered
    from slots
    inner join feeds on slots.feed = feeds.feed
    left join answered on slots.feed = answered.feed
    where not exists (
        select from ops.closure where closure.day = slots.business_date and closure.feed = slots.feed
    )
)

select
    timed.feed,
    timed.business_date,
    timed.last_date,
    timed.due_at,
    timed.deadline_at,
    case
        when by_slot.first_received_at is not null or timed.is_answered then 'arrived'
        when by_slot.held_deliveries > 0 then 'held'
        when as_of < case when by_slot.deliveries_on_the_way > 0 then timed.deadline_at else timed.due_at end then 'not_yet_due'
        when by_slot.deliveries_on_the_way > 0 then 'late_here'
        when timed.polled_at is null or timed.polled_at < timed.due_at
            then case when as_of < timed.deadline_at then 'not_yet_due' else 'late_here' end
        when timed.missing = 'accept' then 'accepted'
        else 'late_at_partner'
    end,
    coalesce(by_slot.deliveries, 0),
    coalesce(by_slot.held_deliveries, 0),
    by_slot.first_received_at,
    by_slot.published_at,
    coalesce(by_slot.rows_published, 0)::bigint,
    case when by_slot.first_received_at > timed.due_at then coalesce(by_slot.first_rows, 0) else 0 end
from timed
left join by_slot on timed.feed = by_slot.feed and timed.business_date = by_slot.business_date
$$;
comment on function ops.feed_days is
'One row per feed and expected delivery, from the first one to now, in one of these states: arrived; not_yet_due;
late_at_partner; late_here (delivered but not published by its deadline, or not polled); held (by the gate, or refused when
landing); accepted (nothing was delivered, and the contract accepts that). `as_of` changes the time, not the ledger;
with `only_built` a delivery has arrived only if the current build contains it.';

create or replace view ops.feed_day as
select * from ops.feed_days(ops.now());
comment on view ops.feed_day is 'One row per feed and expected delivery, with its current state.';

create or replace view ops.feed_on_the_way as
select
    feed,
    min(received_at) as received_at
from (
    select
        feed,
        received_at
    from ops.batch
    where state in ('landed', 'loaded', 'gated')
    union all
    select
        feed,
        received_at
    from ops.delivery
    where batch_id is null and problem is null and deleted_at is null and business_date is not null
) as on_the_way
group by feed;
comment on view ops.feed_on_the_way is 'Feeds with a delivery that was found and is neither published nor held, and when the first of them was received.';

-- Not by state: while a clock stands in the past, a batch that landed just now counts there as a poll after every due time.
create or replace view ops.feed_coming as
select
    day.feed,
    min(day.due_at) as due_at
from ops.feed_day as day
left join ops.feed_poll as poll on day.feed = poll.feed
where
    day.state not in ('arrived', 'held')
    and day.due_at <= ops.now() + interval '30 minutes'
    and (poll.polled_at is null or poll.polled_at < day.due_at)
group by day.feed
union
select
    feed,
    least(received_at, ops.now()) as due_at
from ops.feed_on_the_way;
comment on view ops.feed_coming is
'Feeds that a build had better wait for: a delivery is on its way to raw, or was due and the feed was not polled since, or is due
within half an hour. A feed that was polled in vain, or whose delivery is held, is not waited for.';

create or replace view ops.feed_day_built as
select
    days.*,
    build.build_no,
    build.judged_at
from ops.build
inner join ops.open_build using (build_no)
cross join lateral ops.feed_days(build.judged_at, true) as days;
comment on view ops.feed_day_built is 'ops.feed_day for the current build, at the time when it was started.';

create or replace view ops.open_problem as
select
    feed,
    business_date,
    batch_id,
    received_at,
    rows_held,
    problem
from ops.batch as held
where
    state = 'held' and received_at <= ops.known_until()
    and (origin = 'delivery' or landed_at <= ops.known_until())
    and (rejected_at is null or rejected_at > ops.known_until())
    and not exists (
        select from ops.batch as later
        where
            later.feed = held.feed and later.business_date = held.business_date and later.state = 'published'
            and later.counts_from > held.counts_from
    )
union all
select
    feed,
    business_date,
    null as batch_id,
    received_at,
    null as rows_held,
    problem
from ops.delivery
where problem ->> 'rule' <> 'delivery.marker' and deleted_at is null and received_at <= ops.known_until();
comment on view ops.open_problem is 'Deliveries held by the gate or refused when landing that no later delivery replaced and no person rejected. Without markers and checksums beside the data.';

create or replace view ops.feed_now as
select
    feed.feed,
    feed.partner,
    case
        when count(*) filter (where day.state = 'held') > 0 or feed.feed in (select open_problem.feed from ops.open_problem) then 'held'
        when count(*) filter (where day.state = 'late_here') > 0 then 'late_here'
        when count(*) filter (where day.state = 'late_at_partner') > 0 then 'late_at_partner'
        when feed.feed not in (select batch.feed from ops.batch) then 'no_data'
        else 'healthy'
    end as state,
    count(*) filter (where day.state = 'late_at_partner') as days_late_at_partner,
    count(*) filter (where day.state = 'late_here') as days_late_here,
    count(*) filter (where day.state = 'held') as days_held,
    min(day.business_date) filter (where day.state in ('held', 'late_here', 'late_at_partner')) as broken_since,
    max(day.business_date) filter (where day.state = 'arrived') as last_arrived,
    min(day.due_at) filter (where day.state = 'not_yet_due') as next_due_at
from ops.feed
left join ops.feed_day as day using (feed)
group by feed.feed, feed.partner;
comment on view ops.feed_now is
'One row per feed: its worst open problem (held, including corrections; late_here; late_at_partner; no_data if it
never delivered; otherwise healthy, as in mart_data_quality), and how many of its days are in each state.';

create or replace view ops.batch_seen as
select
    batch_id,
    feed,
    business_date,
    origin,
    case
        when ops.as_known_no() is null or state not in ('published', 'withdrawn') then state
        when batch_id in (select batch_id from ops.build_batch where build_no = ops.as_known_no()) then 'published'
        else 'gated'
    end as state,
    received_at,
    case when published_at < ops.known_until() then published_at end as published_at,
    rows_in,
    rows_published,
    rows_quarantined,
    rows_duplicate
from ops.batch
where
    received_at <= ops.known_until() and (origin = 'delivery' or landed_at <= ops.known_until())
    and (
        state <> 'withdrawn'
        or batch_id in (select batch_id from ops.build_batch where build_no = ops.as_known_no())
    );
comment on view ops.batch_seen is 'The ledger without withdrawn batches; in a session that builds marts as known on an earlier date, as it was then.';

create or replace view ops.gate_result_seen as
select * from ops.gate_result where checked_at <= ops.known_until();
comment on view ops.gate_result_seen is 'Results of expectations; in a session that builds marts as known on an earlier date, without later ones.';

grant select on all tables in schema ops to sampan_builder;
