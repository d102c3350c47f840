-- One row per record type, code and origin country and destination country of each batch; the month is that of the business date.
with deliveries as (
    select * from {{ source('raw', 'csd_bulk_hscoccit') }}
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
        deliveries.destination_country as destination_country_code,
        deliveries.re_export_value_hkd,
        deliveries.re_export_quantity,
        deliveries.re_export_value_ytd_hkd,
        deliveries.re_export_quantity_ytd,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
