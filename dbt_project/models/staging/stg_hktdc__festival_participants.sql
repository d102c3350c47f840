-- One row per event, merchant and platform of each batch.
with deliveries as (
    select * from {{ source('raw', 'festival_participants') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.event_id,
        deliveries.merchant_no,
        deliveries.platform,
        deliveries.store_id,
        deliveries.shop_name,
        deliveries.merchant_name,
        deliveries.brn,
        deliveries.operator_uscc,
        deliveries.categories,
        deliveries.mark_codes,
        deliveries.joined_on,
        deliveries.status,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
