-- One row per check of each batch; hashes only.
with deliveries as (
    select * from {{ source('raw', 'credit_reference_checks') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.check_no,
        deliveries.checked_at,
        deliveries.direction,
        deliveries.bank_id,
        deliveries.agency,
        deliveries.brn,
        deliveries.consent_id,
        deliveries.report_hash,
        deliveries.issued_hash,
        deliveries.result,
        deliveries.validation_platform,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
