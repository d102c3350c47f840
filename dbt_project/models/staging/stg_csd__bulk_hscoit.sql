-- One row per record type, code and origin country of each batch; the month is that of the business date.
with deliveries as (
    select * from {{ source('raw', 'csd_bulk_hscoit') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        {{ month_of('batches.business_date') }} as month_start,
        deliveries.record_type,
        deliveries.hs_code,
        deliveries.origin_country as origin_country_code,
        deliveries.import_value_hkd,
        deliveries.import_quantity,
        deliveries.import_value_ytd_hkd,
        deliveries.import_quantity_ytd,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
