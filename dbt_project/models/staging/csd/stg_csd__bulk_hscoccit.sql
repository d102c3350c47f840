-- One row per record type, code and origin country and destination country of each batch; the month is that of the business date.
with deliveries as ({{ deliveries('csd_bulk_hscoccit') }})

select
    {{ month_of('deliveries.business_date') }} as month_start,
    deliveries.record_type,
    deliveries.hs_code,
    deliveries.origin_country as origin_country_code,
    deliveries.destination_country as destination_country_code,
    deliveries.re_export_value_hkd,
    deliveries.re_export_quantity,
    deliveries.re_export_value_ytd_hkd,
    deliveries.re_export_quantity_ytd,
    {{ lineage() }}
from deliveries
