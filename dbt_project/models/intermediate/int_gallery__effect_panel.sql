-- One row per event, complete window and category of each supplier in a store of Design Gallery, and of each shop that took no part:
-- sales before and after, in yuan. Goods that came back are not taken off: Design Gallery counts them on the day of return.
{{ config(materialized='table') }}

with windows as (
    select * from {{ ref('int_gallery__windows') }} where is_complete
),

gallery as (
    select * from {{ ref('int_gallery__daily') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

rates as (
    select * from {{ ref('int_rates__days') }}
),

shopping_days as (
    select * from {{ ref('shopping_days') }}
),

others as (
    select * from {{ ref('int_festival__effect_panel') }} where not is_treated and measure = 'paid'
),

sales as (
    select
        windows.event_id,
        windows.time_window,
        gallery.store,
        gallery.supplier_brn,
        gallery.category,
        links.sme_id,
        windows.before_days,
        windows.after_days,
        gallery.day >= windows.after_first_day as is_after,
        coalesce(gallery.sales_cny, gallery.sales_hkd / rates.hkd_per_cny) as sales_cny
    from windows
    inner join gallery
        on
            gallery.day between windows.before_first_day and windows.before_last_day
            or gallery.day between windows.after_first_day and windows.after_last_day
    inner join links on gallery.supplier_brn = links.source_key
    left join rates on gallery.day = rates.day
    left join shopping_days on gallery.day between shopping_days.first_day and shopping_days.last_day
    where shopping_days.shopping_day is null or (windows.time_window = 'during' and gallery.day >= windows.after_first_day)
),

final as (
    select
        event_id as event,
        'sales' as measure,
        time_window,
        sme_id as cluster_key,
        {{ dbt.concat(["store", "':'", "supplier_brn"]) }} as shop,
        category as stratum,
        true as is_treated,
        {{ dbt.concat(["'all;'", "store"]) }} as audiences,
        cast(before_days as {{ dbt.type_float() }}) as before_base,
        cast(after_days as {{ dbt.type_float() }}) as after_base,
        cast(sum(case when is_after then 0 else sales_cny end) as {{ dbt.type_float() }}) as before_value,
        cast(sum(case when is_after then sales_cny else 0 end) as {{ dbt.type_float() }}) as after_value
    from sales
    group by event_id, time_window, sme_id, store, supplier_brn, category, before_days, after_days
    union all
    select
        event,
        'sales' as measure,
        time_window,
        cluster_key,
        shop,
        category as stratum,
        false as is_treated,
        '' as audiences,
        cast(before_base as {{ dbt.type_float() }}) as before_base,
        cast(after_base as {{ dbt.type_float() }}) as after_base,
        cast(before_value as {{ dbt.type_float() }}) as before_value,
        cast(after_value as {{ dbt.type_float() }}) as after_value
    from others
)

select * from final
