-- One row per period and chapter of each batch; US dollars.
with deliveries as (
    select * from {{ source('raw', 'comtrade_mirror_imports') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        cast(concat(substr(deliveries.period, 1, 4), '-', substr(deliveries.period, 5, 2), '-01') as date) as month_start,
        deliveries.code as chapter,
        deliveries.reporter_code,
        deliveries.partner_code,
        deliveries.flow,
        deliveries.classification,
        deliveries.code_description,
        round(deliveries.value_usd, 2) as value_usd,
        round(deliveries.cif_usd, 2) as cif_usd,
        deliveries.is_reported,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
