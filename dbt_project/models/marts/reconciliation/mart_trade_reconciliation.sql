-- One row per month, flow, goods (merchandise or gold) and published source: declarations beside what C&SD publishes. Flows are
-- never to be added up (total_export is the two others together), nor sources: each publishes the same trade again.
with declared_by_trader as (
    select * from {{ ref('int_trade__monthly') }}
),

bulk as (
    select * from {{ ref('int_csd__bulk_monthly') }}
),

statistics as (
    select * from {{ ref('int_csd__statistics_versioned') }} where is_current
),

bands as (
    select * from {{ ref('reconciliation_bands') }} where reconciliation = 'declared_trade'
),

coverage as (
    select * from {{ ref('int_feeds__completeness') }} where feed = 'customs_declarations'
),

open_build as (
    {{ release_columns(['customs_declarations']) }}
),

declared_by_flow as (
    select
        month,
        flow,
        sum(value_hkd) as value_hkd,
        sum(exempt_value_hkd) as exempt_value_hkd,
        sum(gold_value_hkd) as gold_value_hkd,
        sum(exempt_gold_value_hkd) as exempt_gold_value_hkd
    from declared_by_trader
    group by month, flow
),

declared_flows as (
    select * from declared_by_flow
    union all
    select
        month,
        'total_export' as flow,
        sum(value_hkd) as value_hkd,
        sum(exempt_value_hkd) as exempt_value_hkd,
        sum(gold_value_hkd) as gold_value_hkd,
        sum(exempt_gold_value_hkd) as exempt_gold_value_hkd
    from declared_by_flow
    where flow <> 'import'
    group by month
),

declared as (
    select
        month,
        flow,
        'merchandise' as goods,
        value_hkd as declared_hkd,
        exempt_value_hkd as declared_exempt_hkd
    from declared_flows
    union all
    select
        month,
        flow,
        'gold' as goods,
        gold_value_hkd as declared_hkd,
        exempt_gold_value_hkd as declared_exempt_hkd
    from declared_flows
),

-- Each figure is rounded to its unit: half a unit for each is the most that rounding can account for. Where one figure is not
-- available, neither is the sum.
published as (
    select
        published_source,
        month,
        flow,
        case when is_gold then 'gold' else 'merchandise' end as goods,
        'HKD' as published_unit,
        value_hkd as published_hkd,
        0.5 * figure_count as rounding_hkd,
        false as is_marked_provisional
    from bulk
    union all
    select
        'trade_idds' as published_source,
        month_start as month,
        flow,
        'merchandise' as goods,
        min(unit_published) as published_unit,
        case when count(value_hkd) = count(*) then sum(value_hkd) end as published_hkd,
        500.0 * count(*) as rounding_hkd,
        {{ any_true("maturity = 'p'") }} as is_marked_provisional
    from statistics
    where source = 'trade_idds' and origin_iso2_code = 'ALL' and partner_iso2_code = 'ALL'
    group by month_start, flow
    union all
    select
        'web_table' as published_source,
        month_start as month,
        flow,
        'merchandise' as goods,
        unit_published as published_unit,
        value_hkd as published_hkd,
        500000.0 as rounding_hkd,
        coalesce(maturity = 'p', false) as is_marked_provisional
    from statistics
    where source = 'web_table'
),

publications as (
    select distinct
        published_source,
        flow,
        goods
    from published
),

-- What a source leaves out in a month for which it is out is nil.
publication_months as (
    select distinct
        published_source,
        month
    from published
    where published_hkd is not null
),

expected as (
    select
        declared.month,
        declared.flow,
        declared.goods,
        declared.declared_hkd,
        declared.declared_exempt_hkd,
        publications.published_source,
        publication_months.month is not null as is_out
    from declared
    inner join publications on declared.flow = publications.flow and declared.goods = publications.goods
    left join publication_months
        on declared.month = publication_months.month and publications.published_source = publication_months.published_source
),

matched as (
    select
        expected.*,
        published.published_unit,
        case when published.month is not null then published.published_hkd when expected.is_out then 0 end as published_hkd,
        case
            when published.published_hkd is not null then published.rounding_hkd
            when published.month is null and expected.is_out then 0
        end as rounding_hkd,
        case
            when published.month is not null then published.is_marked_provisional or published.published_hkd is null
            else not expected.is_out
        end as is_marked_provisional
    from expected
    left join published
        on
            expected.month = published.month and expected.flow = published.flow and expected.goods = published.goods
            and expected.published_source = published.published_source
),

dated as (
    select
        matched.*,
        {{ month_may_grow('customs_declarations', 'matched.month', 'open_build.last_complete_date') }} as is_due,
        coalesce(coverage.first_date > matched.month, true) as is_before_first
    from matched
    cross join open_build
    cross join coverage
),

classed as (
    select
        dated.*,
        case
            when published_hkd is null then 'not_published'
            when is_before_first then 'before_first_declarations'
            when is_due then 'declarations_still_due'
            else 'comparable'
        end as comparability
    from dated
),

-- What is not compared has no gap: it would say how much is missing.
compared as (
    select
        classed.*,
        case when comparability = 'comparable' then declared_hkd - published_hkd end as gap_hkd
    from classed
),

measured as (
    select
        compared.*,
        case when published_hkd > 0 then 100.0 * gap_hkd / published_hkd end as gap_pct,
        case
            when gap_hkd is not null and published_hkd > 0
                then 100.0 * greatest(abs(gap_hkd) - rounding_hkd, 0) / published_hkd
            when gap_hkd = 0 then 0
        end as unexplained_pct
    from compared
),

banded as (
    select
        measured.*,
        (
            select min(bands.max_gap_pct)
            from bands
            where bands.max_gap_pct >= measured.unexplained_pct
        ) as band_pct
    from measured
),

final as (
    select
        banded.month as movement_month,
        banded.flow,
        banded.goods,
        banded.published_source,
        cast(banded.declared_hkd as numeric(20, 2)) as declared_hkd,
        cast(banded.declared_exempt_hkd as numeric(20, 2)) as declared_exempt_hkd,
        cast(banded.published_hkd as numeric(20, 2)) as published_hkd,
        cast(banded.published_unit as {{ dbt.type_string() }}) as published_unit,
        cast(banded.rounding_hkd as numeric(20, 2)) as rounding_hkd,
        cast(banded.gap_hkd as numeric(20, 2)) as gap_hkd,
        cast(banded.gap_pct as numeric(20, 4)) as gap_pct,
        cast(banded.unexplained_pct as numeric(20, 4)) as unexplained_pct,
        cast(
            case
                when banded.comparability <> 'comparable' then 'not_compared'
                else coalesce(bands.band, 'out_of_band')
            end as {{ dbt.type_string() }}
        ) as band,
        cast(banded.comparability as {{ dbt.type_string() }}) as comparability,
        banded.is_marked_provisional or banded.is_due as is_provisional,
        {{ is_quotable('banded.is_marked_provisional', "banded.comparability = 'comparable'") }} as is_quotable,
        open_build.last_complete_date,
        cast(
            'declared as lodged and amended: no parcels under HK$4,000, transhipment or samples' as {{ dbt.type_string() }}
        ) as coverage_note,
        open_build.release_no
    from banded
    cross join open_build
    left join bands on banded.band_pct = bands.max_gap_pct
)

select * from final
