-- One row per measure and group of programmes: how exports and online sales of funded SMEs changed from the 12 months
-- before to the 12 months after their first project began, against matched SMEs without one. Alike is not the same.
with outcomes as (
    select * from {{ ref('stg_ops__funding_outcomes') }}
),

open_build as (
    {{ release_columns(['funding_applications', 'customs_declarations', 'platform_orders', 'business_register']) }}
),

final as (
    select
        outcomes.measure,
        outcomes.programme,
        12 as window_months,
        outcomes.status as estimate_status,
        outcomes.funded_count,
        outcomes.matched_funded_count,
        outcomes.unfunded_count,
        outcomes.first_start_month,
        outcomes.last_start_month,
        cast(outcomes.funded_before_hkd as numeric(20, 2)) as funded_before_hkd,
        cast(outcomes.funded_after_hkd as numeric(20, 2)) as funded_after_hkd,
        cast(outcomes.unfunded_before_hkd as numeric(20, 2)) as unfunded_before_hkd,
        cast(outcomes.unfunded_after_hkd as numeric(20, 2)) as unfunded_after_hkd,
        cast((outcomes.effect - 1) * 100 as numeric(12, 2)) as effect_pct,
        cast((outcomes.effect_low - 1) * 100 as numeric(12, 2)) as effect_low_pct,
        cast((outcomes.effect_high - 1) * 100 as numeric(12, 2)) as effect_high_pct,
        cast((outcomes.placebo - 1) * 100 as numeric(12, 2)) as placebo_pct,
        cast((outcomes.placebo_low - 1) * 100 as numeric(12, 2)) as placebo_low_pct,
        cast((outcomes.placebo_high - 1) * 100 as numeric(12, 2)) as placebo_high_pct,
        outcomes.placebo_low <= 1 and outcomes.placebo_high >= 1 as trends_are_parallel,
        cast('coarsened exact matching; Poisson difference in differences; 95% interval, clustered' as text) as method,
        cast(
            case
                when outcomes.status = 'too_few' then 'too few enterprises with 12 months on both sides'
                when outcomes.placebo_low > 1 or outcomes.placebo_high < 1 then 'trends differed before the funding already'
                else 'who applies may differ in ways that no feed shows'
            end as text
        ) as caveat,
        open_build.last_complete_date,
        open_build.release_no
    from outcomes
    cross join open_build
)

select * from final
