-- One row per enterprise that declared trade of the last 12 months that are whole and settled: what it exported and imported in
-- them.
{{ config(materialized='table', indexes=[{'columns': ['sme_id'], 'unique': true}]) }}

with links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

monthly as (
    select * from {{ ref('int_trade__monthly') }}
),

span as (
    select * from {{ ref('int_calendar__last_12_months') }}
),

final as (
    select
        links.sme_id,
        {{ any_true("monthly.flow <> 'import'") }} as is_exporter,
        sum(case when monthly.flow <> 'import' then monthly.value_hkd else 0 end) as export_value_hkd,
        sum(case when monthly.flow = 'import' then monthly.value_hkd else 0 end) as import_value_hkd
    from monthly
    inner join links on monthly.trader_id = links.source_key
    inner join span on monthly.month between span.first_month and span.last_month
    group by links.sme_id
)

select * from final
