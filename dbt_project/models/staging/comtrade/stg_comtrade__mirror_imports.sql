-- One row per period and chapter of each batch; US dollars.
with deliveries as ({{ deliveries('comtrade_mirror_imports') }})

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
    {{ lineage() }}
from deliveries
