-- One row per enterprise, provider, channel and month of each batch.
with deliveries as (
    select * from {{ source('raw', 'epayment_summaries') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.month_start,
        deliveries.brn,
        deliveries.provider,
        deliveries.consent_id,
        deliveries.channel,
        deliveries.payments as payment_count,
        round(deliveries.amount_hkd, 2) as amount_hkd,
        deliveries.refunds as refund_count,
        round(deliveries.refund_hkd, 2) as refund_hkd,
        deliveries.provider_name,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
