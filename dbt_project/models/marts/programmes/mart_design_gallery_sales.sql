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
    select * from {{ ref('int_rates__periods') }}
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
        sum(coalesce(daily.sales_hkd, daily.sales_cny * rates.hkd_per_cny)) as sales_hkd,
        sum(coalesce(daily.returns_hkd, daily.returns_cny * rates.hkd_per_cny)) as returns_hkd,
        {{ any_true('daily.sales_hkd is null and ' ~ awaits_rate('rates', 'daily.day')) }} as awaits_rate,
        count(coalesce(daily.sales_hkd, daily.sales_cny * rates.hkd_per_cny)) < count(*) as lacks_rate
    from daily
    inner join links on daily.supplier_brn = links.source_key
    left join rates on {{ in_force_on('rates', 'daily.day') }}
    group by daily.store, {{ month_of('daily.day') }}, daily.category, links.sme_id
),

final as (
    select
        monthly.store,
        monthly.month as sale_month,
        monthly.category,
        monthly.sme_id,
        cast(monthly.units_sold as bigint) as units_sold,
        cast(monthly.units_returned as bigint) as units_returned,
        cast(monthly.sales_hkd as numeric(20, 2)) as sales_hkd,
        cast(monthly.returns_hkd as numeric(20, 2)) as returns_hkd,
        cast(monthly.sales_hkd - monthly.returns_hkd as numeric(20, 2)) as net_hkd,
        coalesce(open_build.last_complete_date < {{ dbt.last_day('monthly.month', 'month') }}, true)
        or monthly.awaits_rate
        or monthly.lacks_rate as is_provisional,
        open_build.last_complete_date,
        open_build.release_no
    from monthly
    cross join open_build
)

select * from final
