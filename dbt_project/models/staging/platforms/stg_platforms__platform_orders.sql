-- One row per platform, order line and modification, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('platform_orders') }})

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
    deliveries.total_fee_cny,
    deliveries.payment_cny,
    deliveries.refund_fee_cny,
    {{ lineage() }}
from deliveries
