-- One row per mart and feed that it is made from: up to which day the feed is complete in this release, whether a delivery
-- of it is late or held, and whether the figures are made of it or only names.
with made_from as (
    {{ marts_and_feeds() }}
),

feeds as (
    select * from {{ ref('feeds') }}
),

covered as (
    select * from {{ ref('int_feeds__completeness') }}
),

quality as (
    select * from {{ ref('mart_data_quality') }}
),

open_build as (
    {{ release_columns() }}
),

by_feed as (
    select
        made_from.mart,
        made_from.feed,
        made_from.is_figure,
        feeds.title,
        covered.first_date,
        covered.last_date,
        covered.last_complete_date,
        coalesce(covered.is_behind, false) as is_behind,
        quality.state,
        quality.held_count + quality.late_here_count + quality.late_at_partner_count as missing_delivery_count
    from made_from
    inner join feeds on made_from.feed = feeds.feed
    left join covered on made_from.feed = covered.feed
    inner join quality on made_from.feed = quality.feed
),

final as (
    select
        by_feed.mart,
        by_feed.feed,
        cast(by_feed.title as {{ dbt.type_string() }}) as feed_title,
        by_feed.first_date,
        by_feed.last_date,
        by_feed.last_complete_date,
        by_feed.state,
        cast(by_feed.missing_delivery_count as integer) as missing_delivery_count,
        by_feed.is_figure,
        by_feed.is_behind,
        -- As last_complete_date in the rows of the mart: of the feeds that its figures are made of.
        case
            when count(case when by_feed.is_figure then by_feed.last_complete_date end) over (partition by by_feed.mart)
                = count(case when by_feed.is_figure then 1 end) over (partition by by_feed.mart)
                then
                    min(case when by_feed.is_figure then by_feed.last_complete_date end)
                        over (partition by by_feed.mart)
        end as mart_complete_date,
        -- Filled in where the release carries the mart from an earlier one, which is known after this is built.
        cast(null as bigint) as carried_from_release_no,
        open_build.release_no
    from by_feed
    cross join open_build
)

select * from final
