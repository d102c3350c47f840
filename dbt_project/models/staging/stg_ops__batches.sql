-- One row per published batch that the open build or one before it took in.
with batches as (
    select * from {{ source('ops', 'batch') }}
),

built as (
    select * from {{ source('ops', 'batches_built') }}
),

taken_in as (
    select
        batches.batch_id,
        batches.feed,
        batches.business_date,
        -- A rollback to earlier content is newer than what it takes the place of.
        built.counts_from as received_at,
        batches.origin
    from batches
    inner join built on batches.batch_id = built.batch_id
),

deliveries as (
    select
        batch_id,
        row_number() over (partition by feed, business_date order by received_at desc, batch_id desc) as recency
    from taken_in
    where origin = 'delivery'
),

chains as (
    select * from {{ source('ops', 'batch_delivery') }}
),

final as (
    select
        taken_in.batch_id,
        taken_in.feed,
        taken_in.business_date,
        taken_in.received_at,
        taken_in.origin,
        coalesce(deliveries.recency > 1, false) as is_superseded
    from taken_in
    inner join chains on taken_in.batch_id = chains.batch_id
    left join deliveries on chains.delivery_id = deliveries.batch_id
)

select * from final
