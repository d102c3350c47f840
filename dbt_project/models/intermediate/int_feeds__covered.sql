-- One row per feed: how far it has come. A day on which another feed of the same calendar delivered and this one did not
-- ends what is complete, unless the contract accepts that nothing comes; so does any delivery that is held, or late here.
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
        batches.feed is not null or feeds.missing = 'accept' as is_there
    from feeds
    inner join spans on feeds.feed = spans.feed
    inner join due_dates
        on feeds.calendar_days = due_dates.calendar_days and spans.first_date <= due_dates.business_date
    left join batches on feeds.feed = batches.feed and due_dates.business_date = batches.business_date
),

stuck as (
    select
        feed,
        business_date
    from {{ ref('stg_ops__feed_days') }}
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
        complete.last_complete_date
    from feeds
    left join spans on feeds.feed = spans.feed
    left join complete on feeds.feed = complete.feed
)

select * from final
