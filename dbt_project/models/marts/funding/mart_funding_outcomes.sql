-- One row per measure, group of programmes and length of the windows: what funded SMEs sold after their first project began,
-- against what they would have sold with the growth of SMEs like them without one.
with outcomes as (
    select * from {{ ref('stg_ops__funding_outcomes') }}
),

open_build as (
    {{ release_columns(['funding_applications', 'customs_declarations', 'platform_orders', 'business_register']) }}
),

-- What was sold more, as a part of what was sold: with the estimate, and with the ends of its interval.
parts as (
    select
        *,
        matched_funded_count * funded_after_hkd as sold_hkd,
        1 - 1 / effect as part_more,
        1 - 1 / effect_low as part_more_low,
        1 - 1 / effect_high as part_more_high
    from outcomes
),

final as (
    select
        parts.measure,
        parts.programme,
        parts.window_months,
        parts.status as estimate_status,
        coalesce(parts.status = 'estimated' and parts.placebo_low <= 1 and parts.placebo_high >= 1, false) as is_quotable,
        parts.funded_count,
        parts.matched_funded_count,
        parts.unfunded_count,
        parts.existed_before_count,
        parts.first_start_month,
        parts.last_start_month,
        cast(parts.funded_before_hkd as numeric(20, 2)) as funded_before_hkd,
        cast(parts.funded_after_hkd as numeric(20, 2)) as funded_after_hkd,
        cast(parts.funded_after_hkd / parts.effect as numeric(20, 2)) as expected_after_hkd,
        cast(parts.unfunded_before_hkd as numeric(20, 2)) as unfunded_before_hkd,
        cast(parts.unfunded_after_hkd as numeric(20, 2)) as unfunded_after_hkd,
        cast((parts.effect - 1) * 100 as numeric(12, 2)) as effect_pct,
        cast((parts.effect_low - 1) * 100 as numeric(12, 2)) as effect_low_pct,
        cast((parts.effect_high - 1) * 100 as numeric(12, 2)) as effect_high_pct,
        cast(parts.p_value as numeric(7, 6)) as p_value,
        cast(parts.p_value_adjusted as numeric(7, 6)) as p_value_adjusted,
        parts.placebo_funded_count,
        cast((parts.placebo - 1) * 100 as numeric(12, 2)) as placebo_pct,
        cast((parts.placebo_low - 1) * 100 as numeric(12, 2)) as placebo_low_pct,
        cast((parts.placebo_high - 1) * 100 as numeric(12, 2)) as placebo_high_pct,
        parts.placebo_low <= 1 and parts.placebo_high >= 1 as trends_are_parallel,
        parts.applicants_count,
        cast((parts.applicants_effect - 1) * 100 as numeric(12, 2)) as applicants_effect_pct,
        cast((parts.applicants_effect_low - 1) * 100 as numeric(12, 2)) as applicants_effect_low_pct,
        cast((parts.applicants_effect_high - 1) * 100 as numeric(12, 2)) as applicants_effect_high_pct,
        cast(case when parts.effect is not null then parts.paid_hkd end as numeric(20, 2)) as paid_hkd,
        cast(parts.sold_hkd * parts.part_more as numeric(20, 2)) as additional_sales_hkd,
        cast(parts.sold_hkd * parts.part_more_low as numeric(20, 2)) as additional_sales_low_hkd,
        cast(parts.sold_hkd * parts.part_more_high as numeric(20, 2)) as additional_sales_high_hkd,
        -- Without a gain that is certain there is no highest cost, and without any gain no cost.
        cast(case when parts.part_more > 0 then parts.paid_hkd / (parts.sold_hkd * parts.part_more) end as numeric(20, 4))
            as paid_per_additional_hkd,
        cast(case when parts.part_more_high > 0 then parts.paid_hkd / (parts.sold_hkd * parts.part_more_high) end as numeric(20, 4))
            as paid_per_additional_low_hkd,
        cast(case when parts.part_more_low > 0 then parts.paid_hkd / (parts.sold_hkd * parts.part_more_low) end as numeric(20, 4))
            as paid_per_additional_high_hkd,
        cast('growth of unfunded SMEs of the same industry and size class; 95% interval, jackknife by enterprise' as {{ dbt.type_string() }}) as method,
        cast(
            case
                when parts.status = 'too_few' then 'too few enterprises with all months on both sides'
                when parts.status = 'trends_differ' then 'trends differed before the funding already'
                when parts.placebo is null then 'trends before could not be tested: too few enterprises with twice the months before'
                else 'who applies may differ in ways that no feed shows'
            end as {{ dbt.type_string() }}
        )
        || case
            when parts.existed_before_count = 0 then ''
            else
                '; ' || parts.existed_before_count || ' of ' || parts.funded_count
                || ' existed before the oldest application on record and may have been funded before'
        end as caveat,
        open_build.last_complete_date,
        open_build.release_no
    from parts
    cross join open_build
)

select * from final
