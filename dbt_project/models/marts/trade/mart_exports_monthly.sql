-- One row per month of movement, size class, flow, market and HKHS chapter: exports of merchandise, and
-- of gold beside it, in the month and in the year up to it. A
-- cell has a row in every month of the year from its first export on, so that the year to date of any month adds up.
{{ config(indexes=[{'columns': ['movement_month']}]) }}

with declared as (
    {{ declared_by_all() }}
),

exports as (
    select * from declared where flow <> 'import'
),

smes as (
    select * from {{ ref('dim_sme') }}
),

monthly as (
    select
        exports.movement_month,
        cast({{ dbt.date_trunc('year', 'exports.movement_month') }} as date) as year_start,
        {{ declarant_class('smes') }} as sme_class,
        {{ declarant_counts('smes') }} as counts_as_sme,
        exports.flow,
        exports.market_csd_code,
        exports.market_iso2_code,
        exports.hs_chapter,
        sum(exports.value_hkd) as value_hkd,
        sum(exports.gold_value_hkd) as gold_value_hkd,
        sum(exports.missing_line_count) as missing_line_count,
        count(distinct exports.sme_id) as exporter_count
    from exports
    left join smes on exports.sme_id = smes.sme_id
    group by
        exports.movement_month,
        {{ declarant_class('smes') }},
        {{ declarant_counts('smes') }},
        exports.flow,
        exports.market_csd_code,
        exports.market_iso2_code,
        exports.hs_chapter
),

months as (
    select
        movement_month,
        cast({{ dbt.date_trunc('year', 'movement_month') }} as date) as year_start,
        {{ any_true('is_provisional') }} as is_provisional,
        {{ any_true('is_fully_covered') }} as is_fully_covered,
        max(last_complete_date) as last_complete_date,
        max(release_no) as release_no
    from exports
    group by movement_month
),

cells as (
    select
        year_start,
        sme_class,
        counts_as_sme,
        flow,
        market_csd_code,
        market_iso2_code,
        hs_chapter,
        min(movement_month) as first_month
    from monthly
    group by year_start, sme_class, counts_as_sme, flow, market_csd_code, market_iso2_code, hs_chapter
),

final as (
    select
        months.movement_month,
        cells.sme_class,
        cells.counts_as_sme,
        cells.flow,
        cells.market_csd_code,
        cells.market_iso2_code,
        cells.hs_chapter,
        cast(coalesce(monthly.value_hkd, 0) as numeric(20, 2)) as value_hkd,
        cast(
            sum(coalesce(monthly.value_hkd, 0)) over (
                partition by cells.year_start, cells.sme_class, cells.flow, cells.market_csd_code, cells.hs_chapter
                order by months.movement_month
                rows between unbounded preceding and current row
            ) as numeric(20, 2)
        ) as value_ytd_hkd,
        cast(coalesce(monthly.gold_value_hkd, 0) as numeric(20, 2)) as gold_value_hkd,
        cast(
            sum(coalesce(monthly.gold_value_hkd, 0)) over (
                partition by cells.year_start, cells.sme_class, cells.flow, cells.market_csd_code, cells.hs_chapter
                order by months.movement_month
                rows between unbounded preceding and current row
            ) as numeric(20, 2)
        ) as gold_value_ytd_hkd,
        cast(coalesce(monthly.exporter_count, 0) as bigint) as exporter_count,
        cast(coalesce(monthly.missing_line_count, 0) as bigint) as missing_line_count,
        months.is_provisional,
        months.is_fully_covered,
        {{ is_quotable('months.is_provisional', 'months.is_fully_covered') }} as is_quotable,
        coalesce({{ first_month('customs_declarations') }} < months.year_start, false) as is_ytd_fully_covered,
        months.last_complete_date,
        cast('declared trade' as {{ dbt.type_string() }}) as coverage_note,
        months.release_no
    from cells
    inner join months on cells.year_start = months.year_start and cells.first_month <= months.movement_month
    left join monthly
        on
            months.movement_month = monthly.movement_month
            and cells.sme_class = monthly.sme_class
            and cells.flow = monthly.flow
            and cells.market_csd_code = monthly.market_csd_code
            and cells.hs_chapter = monthly.hs_chapter
)

select * from final
