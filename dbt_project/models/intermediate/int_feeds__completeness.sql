-- One row per feed: how far it has come. A day on which another feed of the same calendar delivered ends what is complete,
-- where this one owes a delivery that neither came nor is accepted to be nothing; so does any that is held, or late here.
{{ config(materialized='table') }}

with feeds as (
    select * from {{ ref('feeds') }}
),

batches as (
    select distinct
        feed,
        business_date
    from {{ ref('stg_ops__batches') }}
),

spans as (
    select
        feed,
        min(business_date) as first_date,
        max(business_date) as last_date
    from batches
    group by feed
),

owed as (
    select * from {{ ref('stg_ops__feed_days') }}
),

judged as (
    select
        feed,
        max(last_date) as through_date
    from owed
    group by feed
),

unmet as (
    select * from owed where state not in ('arrived', 'accepted')
),

due_dates as (
    select distinct
        feeds.calendar_days,
        batches.business_date
    from batches
    inner join feeds on batches.feed = feeds.feed
),

expected as (
    select
        feeds.feed,
        due_dates.business_date,
        batches.feed is not null
        or (unmet.feed is null and coalesce(due_dates.business_date <= judged.through_date, true)) as is_there
    from feeds
    inner join spans on feeds.feed = spans.feed
    inner join due_dates
        on feeds.calendar_days = due_dates.calendar_days and spans.first_date <= due_dates.business_date
    left join batches on feeds.feed = batches.feed and due_dates.business_date = batches.business_date
    left join judged on feeds.feed = judged.feed
    left join unmet
        on feeds.feed = unmet.feed and due_dates.business_date between unmet.business_date and unmet.last_date
),

stuck as (
    select
        feed,
        business_date
    from unmet
    where state in ('held', 'late_here')
),

missed as (
    select
        feed,
        business_date
    from expected
    where not is_there
    union all
    select
        feed,
        business_date
    from stuck
),

gaps as (
    select
        feed,
        min(business_date) as first_gap
    from missed
    group by feed
),

-- A gap does not count as a lag while nothing of it is late or held: what is not due yet may still come.
behind as (
    select distinct missed.feed
    from missed
    inner join unmet
        on
            missed.feed = unmet.feed
            and missed.business_date between unmet.business_date and unmet.last_date
            and unmet.state in ('held', 'late_here', 'late_at_partner')
),

complete as (
    select
        expected.feed,
        max(expected.business_date) as last_complete_date
    from expected
    left join gaps on expected.feed = gaps.feed
    where gaps.first_gap is null or expected.business_date < gaps.first_gap
    group by expected.feed
),

final as (
    select
        feeds.feed,
        spans.first_date,
        spans.last_date,
        complete.last_complete_date,
        behind.feed is not null as is_behind
    from feeds
    left join spans on feeds.feed = spans.feed
    left join complete on feeds.feed = complete.feed
    left join behind on feeds.feed = behind.feed
)

select * from final
