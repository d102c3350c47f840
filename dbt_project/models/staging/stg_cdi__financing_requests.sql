-- One row per request and status taken, of each batch.
with deliveries as (
    select * from {{ source('raw', 'cdi_financing_requests') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.request_no,
        deliveries.status_at,
        deliveries.status,
        deliveries.brn,
        deliveries.bank_id,
        deliveries.consent_id,
        deliveries.product,
        deliveries.data_used,
        round(deliveries.amount_requested_hkd, 2) as amount_requested_hkd,
        round(deliveries.amount_approved_hkd, 2) as amount_approved_hkd,
        deliveries.branch,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
