-- One row per feed: how fresh it is, what of it is late, held or in quarantine, which expectations its newest delivery failed,
-- and whom of those it names the platform does not know. Tells what is broken when the release was built.
with feeds as (
    select * from {{ ref('feeds') }}
),

covered as (
    select * from {{ ref('int_feeds__completeness') }}
),

owed as (
    select
        feed,
        max(judged_at) as judged_at,
        count(case when state = 'late_at_partner' then 1 end) as late_at_partner_count,
        count(case when state = 'late_here' then 1 end) as late_here_count,
        count(case when state = 'held' then 1 end) as held_count,
        min(case when state in ('held', 'late_here', 'late_at_partner') then business_date end) as broken_since,
        min(case when state = 'not_yet_due' then due_at end) as next_due_at,
        count(case when state = 'arrived' then 1 end) as arrived_count,
        count(case when first_received_at > due_at then 1 end) as arrived_late_count,
        sum(rows_late) as rows_late
    from {{ ref('stg_ops__feed_days') }}
    group by feed
),

batches as (
    select * from {{ ref('stg_ops__deliveries') }}
),

by_feed as (
    select
        feed,
        max(published_at) as last_loaded_at,
        max(case when state = 'published' then business_date end) as last_loaded_date,
        count(case when state = 'published' then 1 end) as published_batch_count,
        -- Of a batch on its way only some are known yet.
        sum(case when state = 'published' then rows_in end) as rows_in,
        sum(case when state = 'published' then rows_published end) as rows_published,
        sum(case when state = 'published' then rows_quarantined end) as rows_quarantined,
        sum(case when state = 'published' then rows_duplicate end) as rows_duplicate
    from batches
    group by feed
),

waiting as (
    select
        feed,
        count(*) as waiting_count,
        sum(rows_held) as rows_held
    from {{ ref('stg_ops__waiting') }}
    group by feed
),

quarantined as (
    select
        record.feed,
        count(*) as open_count,
        {{ quarantined_amount('record.feed', 'record.fields') }} as open_value
    from {{ source('quarantine', 'record') }} as record
    where record.state = 'open'
    group by record.feed
),

amounts as (
    {{ amounts_of_feeds() }}
),

-- Declarations that are published without some of their lines.
documents as (
    select count(*) as document_count from {{ ref('int_trade__lines_missing') }}
),

rules as (
    select
        asked.batch_id,
        batches.feed,
        count(*) as rule_count,
        count(case when not asked.is_met then 1 end) as failed_count,
        row_number() over (partition by batches.feed order by batches.received_at desc, asked.batch_id desc) as recency
    from {{ ref('stg_ops__batch_rules') }} as asked
    inner join batches on asked.batch_id = batches.batch_id
    group by asked.batch_id, batches.feed, batches.received_at
),

names as (
    select
        feed,
        count(*) as entity_count,
        count(case when state = 'review' then 1 end) as review_count,
        count(case when state <> 'linked' then 1 end) as unmatched_count
    from {{ ref('stg_ops__names_seen') }}
    group by feed
),

open_build as (
    {{ release_columns() }}
),

final as (
    select
        feeds.feed,
        cast(feeds.partner as {{ dbt.type_string() }}) as partner,
        cast(feeds.title as {{ dbt.type_string() }}) as feed_title,
        cast(
            case
                when coalesce(owed.held_count, 0) + coalesce(waiting.waiting_count, 0) > 0 then 'held'
                when owed.late_here_count > 0 then 'late_here'
                when owed.late_at_partner_count > 0 then 'late_at_partner'
                when by_feed.feed is null then 'no_data'
                else 'healthy'
            end as {{ dbt.type_string() }}
        ) as state,
        coalesce(owed.held_count + owed.late_here_count + owed.late_at_partner_count, 0)
        + coalesce(waiting.waiting_count, 0) > 0 as is_broken,
        owed.broken_since,
        by_feed.last_loaded_at,
        by_feed.last_loaded_date,
        covered.last_complete_date,
        owed.next_due_at,
        cast(coalesce(owed.late_at_partner_count, 0) as integer) as late_at_partner_count,
        cast(coalesce(owed.late_here_count, 0) as integer) as late_here_count,
        cast(coalesce(owed.held_count, 0) as integer) as held_count,
        cast(coalesce(waiting.waiting_count, 0) as integer) as waiting_count,
        cast(coalesce(by_feed.published_batch_count, 0) as integer) as published_batch_count,
        cast(coalesce(owed.arrived_count, 0) as integer) as arrived_count,
        cast(coalesce(owed.arrived_late_count, 0) as integer) as arrived_late_count,
        cast(coalesce(by_feed.rows_in, 0) as bigint) as rows_in,
        cast(coalesce(by_feed.rows_published, 0) as bigint) as rows_published,
        cast(coalesce(by_feed.rows_quarantined, 0) as bigint) as rows_quarantined,
        cast(coalesce(by_feed.rows_duplicate, 0) as bigint) as rows_duplicate,
        cast(coalesce(waiting.rows_held, 0) as bigint) as rows_held,
        cast(coalesce(owed.rows_late, 0) as bigint) as rows_late,
        cast(coalesce(quarantined.open_count, 0) as bigint) as quarantine_open_count,
        cast(
            case when amounts.unit is not null then coalesce(quarantined.open_value, 0) end as numeric(20, 2)
        ) as quarantine_open_value,
        cast(amounts.unit as {{ dbt.type_string() }}) as quarantine_open_unit,
        cast(
            case when feeds.feed = 'customs_declarations' then coalesce(documents.document_count, 0) end as bigint
        ) as incomplete_document_count,
        cast(coalesce(rules.rule_count, 0) as integer) as expectation_count,
        cast(coalesce(rules.failed_count, 0) as integer) as failed_expectation_count,
        cast(names.entity_count as bigint) as named_count,
        cast(names.unmatched_count as bigint) as unmatched_count,
        cast(names.review_count as bigint) as in_review_count,
        cast(100.0 * names.unmatched_count / nullif(names.entity_count, 0) as numeric(5, 2)) as unmatched_pct,
        owed.judged_at,
        open_build.release_no
    from feeds
    cross join open_build
    left join covered on feeds.feed = covered.feed
    left join owed on feeds.feed = owed.feed
    left join by_feed on feeds.feed = by_feed.feed
    left join waiting on feeds.feed = waiting.feed
    left join quarantined on feeds.feed = quarantined.feed
    left join amounts on feeds.feed = amounts.feed
    cross join documents
    left join rules on feeds.feed = rules.feed and rules.recency = 1
    left join names on feeds.feed = names.feed
)

select * from final
