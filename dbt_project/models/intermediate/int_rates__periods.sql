-- One row per rate of the renminbi and the period in which it stands: from its day to the day before the next rate. The last
-- known one stands in for those still to come, and the first one for the days before it.
{{ config(materialized='view') }}

with rates as (
    select * from {{ ref('int_rates__versioned') }} where is_current and hkd_per_cny is not null
),

ordered as (
    select
        rates.*,
        lag(end_of_day) over (order by end_of_day) as day_before,
        lead(end_of_day) over (order by end_of_day) as day_after
    from rates
),

final as (
    select
        case when day_before is null then cast('1994-01-01' as date) else end_of_day end as valid_from,
        cast({{ dbt.dateadd('day', -1, 'day_after') }} as date) as valid_to,
        end_of_day as rate_day,
        hkd_per_cny
    from ordered
)

select * from final
