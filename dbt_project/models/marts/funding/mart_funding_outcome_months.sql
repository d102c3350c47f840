-- One row per measure, group of programmes, length of the windows and event month: the effect of mart_funding_outcomes by month.
-- Months before the application are negative, 0 is from the application to the start of the project.
with months as (
    select * from {{ ref('stg_ops__funding_outcome_months') }}
),

outcomes as (
    select * from {{ ref('mart_funding_outcomes') }}
),

final as (
    select
        months.measure,
        months.programme,
        months.window_months,
        months.event_month,
        cast((months.effect - 1) * 100 as numeric(12, 2)) as effect_pct,
        cast((months.band_low - 1) * 100 as numeric(12, 2)) as band_low_pct,
        cast((months.band_high - 1) * 100 as numeric(12, 2)) as band_high_pct,
        -- The count of one month, window or release less that of another is of few enterprises.
        months.funded_count - mod(months.funded_count, 10) as funded_count,
        outcomes.unfunded_count - mod(outcomes.unfunded_count, 10) as unfunded_count,
        outcomes.is_quotable,
        outcomes.last_complete_date,
        outcomes.release_no
    from months
    inner join outcomes
        on
            months.measure = outcomes.measure
            and months.programme = outcomes.programme
            and months.window_months = outcomes.window_months
)

select * from final
