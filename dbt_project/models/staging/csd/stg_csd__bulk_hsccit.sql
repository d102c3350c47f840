-- One row per record type, code and counterparty country of each batch; the month is that of the business date.
with deliveries as ({{ deliveries('csd_bulk_hsccit') }})

select
    {{ month_of('deliveries.business_date') }} as month_start,
    deliveries.record_type,
    deliveries.hs_code,
    deliveries.counterparty_country as counterparty_country_code,
    deliveries.import_value_hkd,
    deliveries.import_quantity,
    deliveries.import_value_ytd_hkd,
    deliveries.import_quantity_ytd,
    deliveries.domestic_export_value_hkd,
    deliveries.domestic_export_quantity,
    deliveries.domestic_export_value_ytd_hkd,
    deliveries.domestic_export_quantity_ytd,
    deliveries.re_export_value_hkd,
    deliveries.re_export_quantity,
    deliveries.re_export_value_ytd_hkd,
    deliveries.re_export_quantity_ytd,
    {{ lineage() }}
from deliveries
