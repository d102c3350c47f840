-- One row per edition (the year of the business date) and commodity code of each batch; the lost leading zero is back.
with deliveries as ({{ deliveries('hkhs_codes') }})

select
    cast(extract(year from deliveries.business_date) as integer) as edition_year,
    lpad(deliveries.hkhs_code, 8, '0') as hkhs_code,
    deliveries.description_zh,
    deliveries.description_en,
    deliveries.unit_zh,
    deliveries.unit_en,
    {{ lineage() }}
from deliveries
