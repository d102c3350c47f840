-- One row per store of Design Gallery, month, category and supplier. Stores on the Mainland sell in yuan, turned into Hong Kong
-- dollars at the HKMA rate of the day of sale; the JD cross-border project sells in Hong Kong dollars.
{{ config(indexes=[{'columns': ['sme_id']}]) }}

with daily as (
    select * from {{ ref('int_gallery__daily') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

rates as (
    select * from {{ ref('int_rates__days') }}
),

open_build as (
    {{ release_columns(['design_gallery_sales']) }}
),

monthly as (
    select
        daily.store,
        {{ month_of('daily.day') }} as month,
        daily.category,
        links.sme_id,
        sum(daily.units_sold) as units_sold,
        sum(daily.units_returned) as units_returned,
        sum({{ in_hkd('daily.sales_hkd', 'daily.sales_cny', 'rates.hkd_per_cny') }}) as sales_hkd,
        sum({{ in_hkd('daily.returns_hkd', 'daily.returns_cny', 'rates.hkd_per_cny') }}) as returns_hkd,
        {{ any_true('daily.sales_hkd is null and rates.awaits_rate') }} as awaits_rate,
        count({{ in_hkd('daily.sales_hkd', 'daily.sales_cny', 'rates.hkd_per_cny') }}) < count(*) as lacks_rate
    from daily
    inner join links on daily.supplier_brn = links.source_key
    left join rates on daily.day = rates.day
    group by daily.store, {{ month_of('daily.day') }}, daily.category, links.sme_id
),

judged as (
    select
        monthly.*,
        coalesce(open_build.last_complete_date < {{ dbt.last_day('monthly.month', 'month') }}, true)
        or monthly.awaits_rate
        or monthly.lacks_rate as is_provisional,
        coalesce(monthly.month > {{ first_month('design_gallery_sales') }}, false) as is_fully_covered,
        open_build.last_complete_date,
        open_build.release_no
    from monthly
    cross join open_build
),

final as (
    select
        store,
        month as sale_month,
        category,
        sme_id,
        cast(units_sold as bigint) as units_sold,
        cast(units_returned as bigint) as units_returned,
        cast(sales_hkd as numeric(20, 2)) as sales_hkd,
        cast(returns_hkd as numeric(20, 2)) as returns_hkd,
        cast(sales_hkd - returns_hkd as numeric(20, 2)) as net_hkd,
        is_provisional,
        is_fully_covered,
        {{ is_quotable('is_provisional', 'is_fully_covered') }} as is_quotable,
        last_complete_date,
        release_no
    from judged
)

select * from final
