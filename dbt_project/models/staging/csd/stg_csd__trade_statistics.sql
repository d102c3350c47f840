-- One row per source, period, measure, flow, code, origin and partner of each batch; values in Hong Kong dollars. A figure
-- with an unknown unit is not available.
with deliveries as ({{ deliveries('csd_trade_statistics') }}),

-- Figure and unit are swapped at times: the figure is the one without letters.
righted as (
    select
        deliveries.*,
        case when upper(figure) <> lower(figure) then unit else figure end as figure_text,
        case when upper(figure) <> lower(figure) then figure else unit end as unit_text
    from deliveries
),

parsed as (
    select
        righted.*,
        case
            when figure_text = '-' then 0
            when coalesce(figure_text, '..') <> '..' then cast(replace(figure_text, ',', '') as numeric(28, 6))
        end * case
            when unit_text = 'HK$ million' then 1000000
            when unit_text = 'HK$''000' then 1000
            when figure_text = '-' then 0
        end as value_hkd
    from righted
)

select
    parsed.source,
    parsed.frequency,
    cast(concat(substr(parsed.period, 1, 4), '-', substr(parsed.period, 5, 2), '-01') as date) as month_start,
    parsed.measure,
    case parsed.flow
        when '1' then 'import'
        when '2' then 'domestic_export'
        when '3' then 're_export'
        when 'VAL_IM' then 'import'
        else 'total_export'
    end as flow,
    parsed.code_class,
    parsed.code,
    parsed.origin as origin_iso2_code,
    parsed.partner as partner_iso2_code,
    case
        when parsed.figure_text = '-' then 'nil'
        when parsed.value_hkd is null then 'not_available'
        else 'reported'
    end as figure_status,
    parsed.value_hkd,
    parsed.unit_text as unit_published,
    parsed.status as maturity,
    parsed.footnote,
    {{ lineage('parsed') }}
from parsed
