-- One row per cell of a published table and declarant, without sums: what it contributes. The last 24 months, without those that
-- the history holds only in part, that may still grow, or that a release has shown: those stay as they were. Tables are of SMEs; of
-- exports the others are here too, large enterprises and persons, because
-- C&SD publishes the value of all: less the SMEs it is theirs.
{{ config(materialized='table') }}

with smes as (
    select * from {{ ref('dim_sme') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

monthly as (
    select * from {{ ref('int_trade__monthly') }}
),

open_build as (
    {{ release_columns(['customs_declarations'], months_back={'first_month': 23}) }}
),

months as (
    select distinct month from monthly
),

settled as (
    select months.month
    from months
    cross join open_build
    where
        months.month >= open_build.first_month
        and months.month > {{ first_month('customs_declarations') }}
        -- It is published once. What it is a day later, less what it is today, is what few enterprises declared in the day.
        and not {{ month_may_grow('customs_declarations', 'months.month', 'open_build.last_complete_date') }}
),

trade as (
    select
        monthly.month,
        monthly.flow,
        monthly.market_csd_code,
        monthly.hs_chapter,
        monthly.value_hkd,
        links.sme_id,
        coalesce(smes.counts_as_sme, false) as is_published,
        coalesce(smes.industry_section, 'unknown') as industry_section,
        smes.sme_class
    from monthly
    inner join settled on monthly.month = settled.month
    inner join links on monthly.trader_id = links.source_key
    left join smes on links.sme_id = smes.sme_id
),

contributed as (
    select distinct
        'traders' as table_name,
        'all' as series,
        month as period,
        industry_section as row_key,
        sme_class as column_key,
        is_published,
        sme_id,
        1 as value
    from trade
    where is_published
    union all
    select
        'exports' as table_name,
        flow as series,
        month as period,
        hs_chapter as row_key,
        market_csd_code as column_key,
        is_published,
        sme_id,
        sum(value_hkd) as value
    from trade
    where flow <> 'import'
    group by flow, month, hs_chapter, market_csd_code, is_published, sme_id
    -- An enterprise that declared nothing of value hides no other.
    having sum(value_hkd) > 0
),

tables_shown as (
    select distinct
        table_name,
        series,
        period
    from {{ ref('stg_ops__published_cells') }}
),

final as (
    select contributed.*
    from contributed
    left join tables_shown
        on
            contributed.table_name = tables_shown.table_name
            and contributed.series = tables_shown.series
            and contributed.period = tables_shown.period
    where tables_shown.table_name is null
)

select * from final
