-- One row per edition (the year of the business date) and commodity code of each batch; the lost leading zero is back.
with deliveries as (
    select * from {{ source('raw', 'hkhs_codes') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        cast(extract(year from batches.business_date) as integer) as edition_year,
        lpad(deliveries.hkhs_code, 8, '0') as hkhs_code,
        deliveries.description_zh,
        deliveries.description_en,
        deliveries.unit_zh,
        deliveries.unit_en,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
