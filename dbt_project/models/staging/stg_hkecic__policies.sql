-- One row per policy of each batch.
with deliveries as (
    select * from {{ source('raw', 'hkecic_policies') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.policy_no,
        deliveries.brn,
        deliveries.policyholder_name,
        deliveries.policy_type,
        deliveries.status,
        deliveries.issued_on,
        deliveries.cover_start_on,
        deliveries.cover_end_on,
        round(deliveries.indemnity_pct, 2) as indemnity_pct,
        round(deliveries.max_liability_hkd, 2) as max_liability_hkd,
        round(deliveries.premium_rate_pct, 4) as premium_rate_pct,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
