-- One row per published batch that the build under way or one before it took in.
with batches as (
    select * from {{ source('ops', 'batch') }}
),

built as (
    select * from {{ source('ops', 'batches_built') }}
),

ordered as (
    select
        batches.batch_id,
        batches.feed,
        batches.business_date,
        batches.received_at,
        batches.origin,
        row_number() over (
            partition by batches.feed, batches.business_date, batches.origin
            order by batches.received_at desc, batches.batch_id desc
        ) as recency,
        max(case when batches.origin = 'delivery' then batches.received_at end) over (
            partition by batches.feed, batches.business_date
        ) as newest_delivery_at
    from batches
    inner join built on batches.batch_id = built.batch_id
),

final as (
    select
        batch_id,
        feed,
        business_date,
        received_at,
        origin,
        case
            when origin = 'delivery' then recency > 1
            else coalesce(received_at < newest_delivery_at, false)
        end as is_superseded
    from ordered
)

select * from final
