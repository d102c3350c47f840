-- One row per platform, order line and modification of each batch. Times are UTC+8.
with deliveries as (
    select * from {{ source('raw', 'platform_orders') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.platform,
        deliveries.oid,
        deliveries.modified_at,
        deliveries.tid,
        deliveries.store_id,
        deliveries.shop_name,
        deliveries.status,
        deliveries.refund_status,
        deliveries.created_at,
        deliveries.paid_at,
        deliveries.title,
        deliveries.sku_id,
        deliveries.category,
        deliveries.customs_regime,
        deliveries.item_count,
        round(deliveries.total_fee_cny, 2) as total_fee_cny,
        round(deliveries.payment_cny, 2) as payment_cny,
        round(deliveries.refund_fee_cny, 2) as refund_fee_cny,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
