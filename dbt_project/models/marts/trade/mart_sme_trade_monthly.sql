-- One row per SME, month of movement, flow, market and HKHS chapter. Parcels under HK$4,000, transhipment and samples need
-- no declaration and are absent; a month is provisional until declarations for its last day are due (14 days after it).
{{ config(indexes=[{'columns': ['movement_month']}]) }}

with monthly as (
    select * from {{ ref('int_trade__monthly') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

countries as (
    select * from {{ ref('csd_countries') }}
),

open_build as (
    {{ release_columns(['customs_declarations']) }}
),

by_sme as (
    select
        links.sme_id,
        monthly.month,
        monthly.flow,
        monthly.market_csd_code,
        monthly.hs_chapter,
        sum(monthly.value_hkd) as value_hkd,
        sum(monthly.exempt_value_hkd) as exempt_value_hkd,
        sum(monthly.line_count) as line_count,
        sum(monthly.declaration_count) as declaration_count,
        sum(monthly.late_declaration_count) as late_declaration_count,
        sum(monthly.amended_declaration_count) as amended_declaration_count,
        sum(monthly.agent_declaration_count) as agent_declaration_count
    from monthly
    inner join links on monthly.trader_id = links.source_key
    group by links.sme_id, monthly.month, monthly.flow, monthly.market_csd_code, monthly.hs_chapter
),

final as (
    select
        by_sme.sme_id,
        by_sme.month as movement_month,
        by_sme.flow,
        by_sme.market_csd_code,
        countries.iso2_code as market_iso2_code,
        by_sme.hs_chapter,
        cast(by_sme.value_hkd as numeric(20, 2)) as value_hkd,
        cast(by_sme.exempt_value_hkd as numeric(20, 2)) as exempt_value_hkd,
        cast(by_sme.line_count as bigint) as line_count,
        cast(by_sme.declaration_count as bigint) as declaration_count,
        cast(by_sme.late_declaration_count as bigint) as late_declaration_count,
        cast(by_sme.amended_declaration_count as bigint) as amended_declaration_count,
        cast(by_sme.agent_declaration_count as bigint) as agent_declaration_count,
        {{ month_may_grow('customs_declarations', 'by_sme.month', 'open_build.last_complete_date') }} as is_provisional,
        coalesce(by_sme.month > {{ first_month('customs_declarations') }}, false) as is_fully_covered,
        open_build.last_complete_date,
        cast('declared trade' as text) as coverage_note,
        open_build.release_no
    from by_sme
    cross join open_build
    left join countries on by_sme.market_csd_code = countries.csd_code
)

select * from final
