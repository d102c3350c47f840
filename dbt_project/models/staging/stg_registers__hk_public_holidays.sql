-- One row per language and holiday of each batch.
with deliveries as (
    select * from {{ source('raw', 'hk_public_holidays') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.language,
        deliveries.uid,
        deliveries.starts_on as holiday_on,
        deliveries.ends_on as day_after,
        deliveries.summary as holiday_name,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
