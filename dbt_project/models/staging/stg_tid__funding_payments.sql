-- One row per payment of each batch.
with deliveries as (
    select * from {{ source('raw', 'funding_payments') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.payment_no,
        deliveries.application_no,
        deliveries.programme,
        deliveries.brn,
        deliveries.instalment,
        round(deliveries.amount_hkd, 2) as amount_hkd,
        deliveries.paid_on,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
