-- One row per enterprise and branch of each batch.
with deliveries as (
    select * from {{ source('raw', 'business_register') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.brn,
        deliveries.branch_no,
        deliveries.name_en,
        deliveries.name_zh,
        deliveries.legal_form,
        deliveries.cr_no,
        deliveries.status,
        deliveries.commencement_date,
        deliveries.cessation_date,
        deliveries.industry_section,
        deliveries.hsic_code,
        deliveries.persons_engaged as persons_engaged_count,
        deliveries.size_basis,
        deliveries.size_as_of,
        deliveries.district,
        deliveries.changed_on,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
