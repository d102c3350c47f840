-- One row per exporting enterprise and period (each calendar year, and the 12 months up to the last one whose
-- declarations were all due): how its exports of merchandise spread over markets and HKHS chapters. The Herfindahl-Hirschman index is the sum
-- of squared shares: 1 is all in one.
{{ config(indexes=[{'columns': ['period_kind', 'period_end']}]) }}

with exports as (
    select * from {{ ref('mart_sme_trade_monthly') }} where flow <> 'import'
),

known_until as (
    {{ known_until('customs_declarations') }}
),

periods as (
    select distinct
        'calendar_year' as period_kind,
        cast({{ dbt.date_trunc('year', 'exports.movement_month') }} as date) as period_start,
        cast({{ dbt.dateadd('month', 11, dbt.date_trunc('year', 'exports.movement_month')) }} as date) as last_month
    from exports
    union all
    select
        'last_12_months' as period_kind,
        cast({{ dbt.dateadd('month', -11, 'known_until.month') }} as date) as period_start,
        known_until.month as last_month
    from known_until
),

cells as (
    select
        exports.sme_id,
        periods.period_kind,
        periods.period_start,
        periods.last_month,
        exports.market_csd_code,
        exports.market_iso2_code,
        exports.hs_chapter,
        sum(exports.value_hkd) as value_hkd,
        max(exports.last_complete_date) as last_complete_date,
        max(exports.release_no) as release_no
    from exports
    inner join periods on exports.movement_month between periods.period_start and periods.last_month
    -- Gold is not merchandise: a market with gold alone does not count.
    where exports.value_hkd > 0
    group by
        exports.sme_id,
        periods.period_kind,
        periods.period_start,
        periods.last_month,
        exports.market_csd_code,
        exports.market_iso2_code,
        exports.hs_chapter
),

totals as (
    select
        sme_id,
        period_kind,
        period_start,
        last_month,
        sum(value_hkd) as value_hkd,
        max(last_complete_date) as last_complete_date,
        max(release_no) as release_no
    from cells
    group by sme_id, period_kind, period_start, last_month
    having sum(value_hkd) > 0
),

-- Of a period, not of an enterprise: it goes on for those too that exported nothing lately.
dated as (
    select
        totals.*,
        totals.last_month > known_until.month as is_provisional,
        coalesce(totals.period_start > {{ first_month('customs_declarations') }}, false) as is_fully_covered
    from totals
    cross join known_until
),

markets as (
    select
        sme_id,
        period_kind,
        period_start,
        market_csd_code,
        market_iso2_code,
        sum(value_hkd) as value_hkd,
        row_number() over (
            partition by sme_id, period_kind, period_start order by sum(value_hkd) desc, market_csd_code
        ) as position
    from cells
    group by sme_id, period_kind, period_start, market_csd_code, market_iso2_code
),

by_market as (
    select
        sme_id,
        period_kind,
        period_start,
        count(*) as market_count,
        {{ herfindahl('value_hkd') }} as hhi,
        max(case when position = 1 then market_csd_code end) as top_market_csd_code,
        max(case when position = 1 then market_iso2_code end) as top_market_iso2_code,
        max(case when position = 1 then value_hkd end) as top_value_hkd,
        sum(case when market_iso2_code = 'CN' then value_hkd else 0 end) as mainland_value_hkd,
        sum(case when market_iso2_code = 'US' then value_hkd else 0 end) as us_value_hkd
    from markets
    group by sme_id, period_kind, period_start
),

chapters as (
    select
        sme_id,
        period_kind,
        period_start,
        hs_chapter,
        sum(value_hkd) as value_hkd
    from cells
    group by sme_id, period_kind, period_start, hs_chapter
),

by_chapter as (
    select
        sme_id,
        period_kind,
        period_start,
        count(*) as chapter_count,
        {{ herfindahl('value_hkd') }} as hhi
    from chapters
    group by sme_id, period_kind, period_start
),

final as (
    select
        totals.sme_id,
        totals.period_kind,
        totals.period_start,
        cast({{ dbt.last_day('totals.last_month', 'month') }} as date) as period_end,
        cast(totals.value_hkd as numeric(20, 2)) as value_hkd,
        cast(by_market.market_count as bigint) as market_count,
        cast(by_chapter.chapter_count as bigint) as chapter_count,
        cast(by_market.hhi as numeric(9, 6)) as market_hhi,
        cast(by_chapter.hhi as numeric(9, 6)) as chapter_hhi,
        by_market.top_market_csd_code,
        by_market.top_market_iso2_code,
        cast(by_market.top_value_hkd / totals.value_hkd as numeric(9, 6)) as top_market_share,
        cast(by_market.mainland_value_hkd / totals.value_hkd as numeric(9, 6)) as mainland_share,
        cast(by_market.us_value_hkd / totals.value_hkd as numeric(9, 6)) as us_share,
        not {{ is_quotable('totals.is_provisional', 'totals.is_fully_covered') }} as is_partial,
        totals.is_provisional,
        totals.is_fully_covered,
        {{ is_quotable('totals.is_provisional', 'totals.is_fully_covered') }} as is_quotable,
        totals.last_complete_date,
        cast('declared trade' as {{ dbt.type_string() }}) as coverage_note,
        totals.release_no
    from dated as totals
    inner join by_market
        on
            totals.sme_id = by_market.sme_id
            and totals.period_kind = by_market.period_kind
            and totals.period_start = by_market.period_start
    inner join by_chapter
        on
            totals.sme_id = by_chapter.sme_id
            and totals.period_kind = by_chapter.period_kind
            and totals.period_start = by_chapter.period_start
)

select * from final
