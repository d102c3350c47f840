-- One row per data set that the catalogue of DATA.GOV.HK ever listed: which feed of the platform reads it, whether the newest
-- catalogue still lists it, and whether its description changed as often as its publisher announced.
with listed as (
    select * from {{ ref('stg_registers__datagovhk_catalogue') }}
),

feeds as (
    select * from {{ ref('feeds') }} where open_data_set is not null
),

frequencies as (
    select * from {{ ref('update_frequencies') }}
),

open_build as (
    {{ release_columns(['datagovhk_catalogue']) }}
),

spans as (
    select
        dataset_name,
        min(business_date) as first_listed_on,
        max(business_date) as last_listed_on
    from listed
    group by dataset_name
),

newest as (
    select
        listed.*,
        row_number() over (
            partition by listed.dataset_name
            order by listed.business_date desc, listed.received_at desc, listed.batch_id desc
        ) as position
    from listed
),

readers as (
    select
        open_data_set,
        count(*) as feed_count,
        min(feed) as first_feed
    from feeds
    group by open_data_set
),

catalogue as (
    select max(business_date) as read_on from listed
),

judged as (
    select
        newest.dataset_name,
        newest.title,
        newest.publisher,
        newest.update_frequency,
        frequencies.max_days,
        newest.resource_count,
        {{ hong_kong_date('newest.metadata_modified') }} as changed_on,
        {{ dbt.datediff(hong_kong_date('newest.metadata_modified'), 'catalogue.read_on', 'day') }} as days_since_change,
        spans.first_listed_on,
        spans.last_listed_on,
        spans.last_listed_on = catalogue.read_on as is_listed,
        coalesce(readers.feed_count, 0) as feed_count,
        readers.first_feed
    from newest
    inner join spans on newest.dataset_name = spans.dataset_name
    cross join catalogue
    left join frequencies on lower(newest.update_frequency) = frequencies.update_frequency
    left join readers on newest.dataset_name = readers.open_data_set
    where newest.position = 1
),

final as (
    select
        judged.dataset_name,
        judged.title,
        judged.publisher,
        judged.feed_count > 0 as is_read,
        judged.first_feed,
        cast(judged.feed_count as integer) as feed_count,
        judged.is_listed,
        judged.first_listed_on,
        judged.last_listed_on,
        judged.update_frequency,
        judged.changed_on,
        cast(judged.days_since_change as integer) as days_since_change,
        case when judged.is_listed then judged.days_since_change > judged.max_days end as is_stale,
        cast(judged.resource_count as integer) as resource_count,
        open_build.last_complete_date,
        cast('data sets of DATA.GOV.HK' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from judged
    cross join open_build
)

select * from final
