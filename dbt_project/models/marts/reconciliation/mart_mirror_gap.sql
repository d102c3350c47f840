-- One row per month and HS chapter: Hong Kong's published exports to the Mainland beside what the Mainland reports as imported
-- from Hong Kong. The Mainland counts what passed through Hong Kong as imports from their origin, c.i.f.; Hong Kong f.o.b.
with statistics as (
    select *
    from {{ ref('int_csd__statistics_versioned') }}
    where is_current and source = 'trade_idds' and origin_iso2_code = 'ALL' and partner_iso2_code = 'CN' and flow <> 'import'
),

mirror as (
    select * from {{ ref('int_comtrade__mirror_versioned') }} where is_current
),

rates as (
    select * from {{ ref('int_rates__versioned') }} where is_current and hkd_per_usd is not null
),

open_build as (
    {{ release_columns(['csd_trade_statistics', 'comtrade_mirror_imports', 'hkma_exchange_rates']) }}
),

published as (
    select
        month_start as month,
        code as hs_chapter,
        sum(case when flow = 'total_export' then value_hkd end) as published_export_hkd,
        sum(case when flow = 're_export' then value_hkd end) as published_re_export_hkd,
        {{ any_true("flow = 'total_export' and value_hkd is null") }} as is_not_available,
        {{ any_true("flow in ('total_export', 're_export') and value_hkd is null") }}
            as is_re_export_not_available,
        {{ any_true("maturity = 'p'") }} as is_marked_provisional
    from statistics
    group by month_start, code
),

monthly_rates as (
    select
        {{ month_of('end_of_day') }} as month,
        cast(avg(cast(hkd_per_usd as numeric(22, 8))) as numeric(28, 12)) as hkd_per_usd
    from rates
    group by {{ month_of('end_of_day') }}
),

reported as (
    select
        mirror.month_start as month,
        mirror.chapter as hs_chapter,
        mirror.value_usd,
        monthly_rates.hkd_per_usd,
        mirror.value_usd * monthly_rates.hkd_per_usd as mirror_import_hkd
    from mirror
    left join monthly_rates on mirror.month_start = monthly_rates.month
),

reported_months as (
    select distinct month from reported
),

published_months as (
    select distinct month from published
),

-- A chapter that one side does not name in a month for which it reports at all is nil there. What it names as not available
-- is not nil.
cells as (
    select
        coalesce(published.month, reported.month) as month,
        coalesce(published.hs_chapter, reported.hs_chapter) as hs_chapter,
        case
            when published_months.month is not null and not coalesce(published.is_not_available, false)
                then coalesce(published.published_export_hkd, 0)
        end as published_export_hkd,
        case
            when published_months.month is not null and not coalesce(published.is_re_export_not_available, false)
                then coalesce(published.published_re_export_hkd, 0)
        end as published_re_export_hkd,
        case when reported_months.month is not null then coalesce(reported.value_usd, 0) end as mirror_import_usd,
        reported.hkd_per_usd,
        case
            when reported.month is not null then reported.mirror_import_hkd
            when reported_months.month is not null then 0
        end as mirror_import_hkd,
        coalesce(published.is_marked_provisional, false) as is_marked_provisional
    from published
    full outer join reported on published.month = reported.month and published.hs_chapter = reported.hs_chapter
    left join reported_months on coalesce(published.month, reported.month) = reported_months.month
    left join published_months on coalesce(published.month, reported.month) = published_months.month
),

final as (
    select
        cells.month as movement_month,
        cast(cells.hs_chapter as {{ dbt.type_string() }}) as hs_chapter,
        cast(cells.published_export_hkd as numeric(20, 2)) as published_export_hkd,
        cast(cells.published_re_export_hkd as numeric(20, 2)) as published_re_export_hkd,
        cast(cells.mirror_import_usd as numeric(20, 2)) as mirror_import_usd,
        cast(cells.hkd_per_usd as numeric(12, 6)) as hkd_per_usd,
        cast(cells.mirror_import_hkd as numeric(20, 2)) as mirror_import_hkd,
        cast(cells.mirror_import_hkd - cells.published_export_hkd as numeric(20, 2)) as gap_hkd,
        cast(
            case
                when cells.published_export_hkd > 0
                    then 100.0 * (cells.mirror_import_hkd - cells.published_export_hkd) / cells.published_export_hkd
            end as numeric(20, 4)
        ) as gap_pct,
        cast(
            case when cells.published_export_hkd > 0 then cells.mirror_import_hkd / cells.published_export_hkd end
            as numeric(20, 4)
        ) as mirrored_ratio,
        cells.is_marked_provisional or cells.mirror_import_hkd is null or cells.published_export_hkd is null
            as is_provisional,
        {{ is_quotable(
            'cells.is_marked_provisional', 'cells.mirror_import_hkd is not null and cells.published_export_hkd is not null'
        ) }} as is_quotable,
        open_build.last_complete_date,
        cast(
            case
                when cells.published_export_hkd is null then 'not yet published by C&SD'
                when cells.mirror_import_usd is null then 'not yet reported by the Mainland'
                when cells.mirror_import_hkd is null then 'no exchange rate of the month'
                else 'exports f.o.b. by destination, imports c.i.f. by origin or consignment as the Mainland chooses'
            end as {{ dbt.type_string() }}
        ) as coverage_note,
        open_build.release_no
    from cells
    cross join open_build
)

select * from final
