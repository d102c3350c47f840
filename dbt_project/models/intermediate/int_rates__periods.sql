-- One row per rate of the renminbi and the period in which it is the last one known: from its day to the day before the
-- next rate.
{{ config(materialized='view') }}

with rates as (
    select * from {{ ref('int_rates__versioned') }} where is_current and hkd_per_cny is not null
),

final as (
    select
        end_of_day as valid_from,
        cast({{ dbt.dateadd('day', -1, 'lead(end_of_day) over (order by end_of_day)') }} as date) as valid_to,
        hkd_per_cny
    from rates
)

select * from final
