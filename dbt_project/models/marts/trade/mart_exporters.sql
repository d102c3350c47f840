-- One row per enterprise that ever declared an export: since when, until when, and whether it survived: exports in months 13
-- to 24 after its first one, and in months 25 to 36 as well. What came before the platform's history is not known: see is_first_month_certain. A
-- month counts as one without export once its declarations were all due.

with exports as (
    select distinct
        sme_id,
        movement_month,
        is_provisional,
        last_complete_date,
        release_no
    from {{ ref('mart_sme_trade_monthly') }}
    where flow <> 'import'
),

smes as (
    select * from {{ ref('dim_sme') }}
),

known_until as (
    {{ known_until('customs_declarations') }}
),

first_months as (
    select
        sme_id,
        min(movement_month) as first_month
    from exports
    group by sme_id
),

spans as (
    select
        exports.sme_id,
        first_months.first_month,
        max(exports.movement_month) as last_month,
        count(*) as month_count,
        {{ any_true(
            'exports.movement_month > first_months.first_month and exports.movement_month <= '
            ~ dbt.dateadd('month', 12, 'first_months.first_month')
        ) }} as is_back_in_12,
        {{ any_true(
            'exports.movement_month >= ' ~ dbt.dateadd('month', 12, 'first_months.first_month')
            ~ ' and exports.movement_month < ' ~ dbt.dateadd('month', 24, 'first_months.first_month')
        ) }} as is_in_second_year,
        {{ any_true(
            'exports.movement_month >= ' ~ dbt.dateadd('month', 24, 'first_months.first_month')
            ~ ' and exports.movement_month < ' ~ dbt.dateadd('month', 36, 'first_months.first_month')
        ) }} as is_in_third_year,
        {{ any_true('exports.is_provisional') }} as is_provisional,
        max(exports.last_complete_date) as last_complete_date,
        max(exports.release_no) as release_no
    from exports
    inner join first_months on exports.sme_id = first_months.sme_id
    group by exports.sme_id, first_months.first_month
),

final as (
    select
        spans.sme_id,
        coalesce(smes.industry_section, 'unknown') as industry_section,
        smes.sme_class,
        smes.counts_as_sme,
        spans.first_month as first_export_month,
        coalesce(
            spans.first_month > {{ dbt.dateadd('month', 12, first_month('customs_declarations')) }}, false
        ) as is_first_month_certain,
        spans.last_month as last_export_month,
        cast(spans.month_count as bigint) as exporting_month_count,
        spans.last_month > {{ dbt.dateadd('month', -12, 'known_until.month') }} as is_active,
        case
            when {{ dbt.dateadd('month', 12, 'spans.last_month') }} <= known_until.month
                then cast({{ dbt.dateadd('month', 12, 'spans.last_month') }} as date)
        end as lapsed_month,
        case
            when {{ dbt.dateadd('month', 12, 'spans.first_month') }} <= known_until.month then spans.is_back_in_12
        end as exported_again_in_12_months,
        case
            when {{ dbt.dateadd('month', 23, 'spans.first_month') }} <= known_until.month then spans.is_in_second_year
        end as survived_12_months,
        case
            when {{ dbt.dateadd('month', 35, 'spans.first_month') }} <= known_until.month
                then spans.is_in_second_year and spans.is_in_third_year
        end as survived_24_months,
        spans.is_provisional,
        spans.last_complete_date,
        cast('declared trade since the history begins' as {{ dbt.type_string() }}) as coverage_note,
        spans.release_no
    from spans
    inner join smes on spans.sme_id = smes.sme_id
    cross join known_until
)

select * from final
