-- One row per financial year (ended 31 March), product and measure of each batch; values in Hong Kong dollars.
with deliveries as (
    select * from {{ source('raw', 'csd_insured_exports') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

-- Figure and unit stand in each other's place now and then: the figure is the one without letters.
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
),

final as (
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
        parsed._batch_id as batch_id,
        parsed._line as line,
        batches.business_date,
        batches.received_at
    from parsed
    inner join batches on parsed._batch_id = batches.batch_id
)

select * from final
