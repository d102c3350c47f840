-- One row per enterprise, provider, channel and month, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('epayment_summaries') }})

select
    deliveries.month_start,
    deliveries.brn,
    deliveries.provider,
    deliveries.consent_id,
    deliveries.channel,
    deliveries.payments as payment_count,
    deliveries.amount_hkd,
    deliveries.refunds as refund_count,
    deliveries.refund_hkd,
    deliveries.provider_name,
    {{ lineage() }}
from deliveries
