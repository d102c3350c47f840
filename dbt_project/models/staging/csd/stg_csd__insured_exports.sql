-- One row per financial year (ended 31 March), product and measure of each batch; values in Hong Kong dollars.
with deliveries as ({{ deliveries('csd_insured_exports') }}),

{{ published_figures({'HK$ million': 1000000}) }}

select
    figures.frequency,
    cast(figures.period as integer) as financial_year,
    figures.product_code,
    figures.product,
    figures.measure,
    figures.figure_status,
    figures.value_hkd,
    figures.unit_published,
    figures.status as maturity,
    {{ lineage('figures') }}
from figures
