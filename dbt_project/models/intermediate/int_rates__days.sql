-- One row per day from 1994 to two years after the release day: the rate of the renminbi that sales of it are converted at, which is
-- that of the day or the last one known before it. The last known one stands in for those still to come, and the first one for
-- the days before it. A row per day, so that a million days of shops find their rates by a key and not by a range.
{{ config(materialized='table') }}

with rates as (
    select * from {{ ref('int_rates__versioned') }} where is_current and hkd_per_cny is not null
),

days as (
    {{ days_between(
        "cast('1994-01-01' as date)",
        '(select ' ~ dbt.dateadd('year', 2, 'as_of_date') ~ ' from ' ~ ref('stg_ops__open_build') ~ ')'
    ) }}
),

marked as (
    select
        days.day,
        min(rates.end_of_day) over () as first_rate_day,
        max(rates.end_of_day) over () as last_rate_day,
        max(rates.end_of_day) over (order by days.day rows between unbounded preceding and current row) as rate_day
    from days
    left join rates on days.day = rates.end_of_day
),

-- Between two known rates, as on a Sunday, nothing can change any more.
final as (
    select
        marked.day,
        rates.end_of_day as rate_day,
        rates.hkd_per_cny,
        marked.day < marked.first_rate_day or marked.day > marked.last_rate_day as awaits_rate
    from marked
    inner join rates on coalesce(marked.rate_day, marked.first_rate_day) = rates.end_of_day
)

select * from final
