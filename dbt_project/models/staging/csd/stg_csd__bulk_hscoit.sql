-- One row per record type, code and origin country of each batch; the month is that of the business date.
with deliveries as ({{ deliveries('csd_bulk_hscoit') }})

select
    {{ month_of('deliveries.business_date') }} as month_start,
    deliveries.record_type,
    deliveries.hs_code,
    deliveries.origin_country as origin_country_code,
    deliveries.import_value_hkd,
    deliveries.import_quantity,
    deliveries.import_value_ytd_hkd,
    deliveries.import_quantity_ytd,
    {{ lineage() }}
from deliveries
