-- One row per financial year (ended 31 March), product and measure of each batch; values in Hong Kong dollars.
with deliveries as ({{ deliveries('csd_insured_exports') }}),

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
            when figure_text = '-' then 'nil'
            when coalesce(figure_text, '..') = '..' then 'not_available'
            else 'reported'
        end as figure_status,
        case
            when figure_text = '-' then 0
            when coalesce(figure_text, '..') <> '..' then cast(replace(figure_text, ',', '') as numeric(28, 6))
        end as figure_number
    from righted
)

select
    parsed.frequency,
    cast(parsed.period as integer) as financial_year,
    parsed.product_code,
    parsed.product,
    parsed.measure,
    parsed.figure_status,
    case parsed.unit_text
        when 'HK$ million' then 1000000 * parsed.figure_number
    end as value_hkd,
    parsed.unit_text as unit_published,
    parsed.status as maturity,
    {{ lineage('parsed') }}
from parsed
