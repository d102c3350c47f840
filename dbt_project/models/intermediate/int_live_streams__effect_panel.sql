-- One row per period, shop, month, kind of day (working day or weekend, shopping day or not): what the shop was paid on days with a
-- live stream (after) and on its others (before), and how many days they are.
{{ config(materialized='table') }}

with days as (
    select
        *,
        {{ month_of('day') }} as month,
        {{ iso_weekday('day') }} > 5 as is_weekend,
        live_session_count > 0 as is_live
    from {{ ref('int_live_streams__days') }}
),

final as (
    select
        period as event,
        'paid' as measure,
        'live' as time_window,
        cluster_key,
        shop,
        platform as stratum,
        true as is_treated,
        {{ dbt.concat(["'all;'", 'platform']) }} as audiences,
        cast(sum(case when is_live then 0 else 1 end) as {{ dbt.type_float() }}) as before_base,
        cast(sum(case when is_live then 1 else 0 end) as {{ dbt.type_float() }}) as after_base,
        cast(sum(case when is_live then 0 else paid_cny end) as {{ dbt.type_float() }}) as before_value,
        cast(sum(case when is_live then paid_cny else 0 end) as {{ dbt.type_float() }}) as after_value
    from days
    group by period, cluster_key, shop, platform, month, is_weekend, shopping_day
)

select * from final
