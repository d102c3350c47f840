-- One row per application and status taken, of each batch.
with deliveries as (
    select * from {{ source('raw', 'funding_applications') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.application_no,
        deliveries.status_at,
        deliveries.status,
        deliveries.programme,
        deliveries.received_on,
        deliveries.brn,
        deliveries.applicant_name,
        deliveries.market as market_code,
        deliveries.purpose,
        deliveries.platform,
        round(deliveries.amount_applied_hkd, 2) as amount_applied_hkd,
        round(deliveries.amount_approved_hkd, 2) as amount_approved_hkd,
        deliveries.project_start_on,
        deliveries.project_end_on,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
