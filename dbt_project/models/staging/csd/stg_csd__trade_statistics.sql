-- One row per source, period, measure, flow, code, origin and partner of each batch; values in Hong Kong dollars.
with deliveries as ({{ deliveries('csd_trade_statistics') }}),

{{ published_figures({'HK$ million': 1000000, "HK$'000": 1000}) }}

select
    figures.source,
    figures.frequency,
    cast(concat(substr(figures.period, 1, 4), '-', substr(figures.period, 5, 2), '-01') as date) as month_start,
    figures.measure,
    case figures.flow
        when '1' then 'import'
        when '2' then 'domestic_export'
        when '3' then 're_export'
        when 'VAL_IM' then 'import'
        else 'total_export'
    end as flow,
    figures.code_class,
    figures.code,
    figures.origin as origin_iso2_code,
    figures.partner as partner_iso2_code,
    figures.figure_status,
    figures.value_hkd,
    figures.unit_published,
    figures.status as maturity,
    figures.footnote,
    {{ lineage('figures') }}
from figures
