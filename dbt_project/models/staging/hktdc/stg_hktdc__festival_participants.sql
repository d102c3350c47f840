-- One row per event, merchant and platform, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('festival_participants') }})

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
    {{ lineage() }}
from deliveries
