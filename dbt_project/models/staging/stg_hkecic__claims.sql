-- One row per claim and status taken, of each batch.
with deliveries as (
    select * from {{ source('raw', 'hkecic_claims') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.claim_no,
        deliveries.status,
        deliveries.status_on,
        deliveries.lodged_on,
        deliveries.policy_no,
        deliveries.shipment_no,
        deliveries.policyholder_name_zh,
        deliveries.cause,
        deliveries.cause_text_zh,
        deliveries.remarks_zh,
        round(deliveries.amount_claimed_hkd, 2) as amount_claimed_hkd,
        round(deliveries.amount_paid_hkd, 2) as amount_paid_hkd,
        round(deliveries.amount_recovered_hkd, 2) as amount_recovered_hkd,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
