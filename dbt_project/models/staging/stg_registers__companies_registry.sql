-- One row per company of each batch.
with deliveries as (
    select * from {{ source('raw', 'companies_registry') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.brn,
        deliveries.name_en,
        deliveries.name_zh,
        deliveries.company_type,
        deliveries.incorporated_on,
        deliveries.redomiciled_on,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
