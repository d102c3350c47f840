-- One row per month and platform: what was paid in yuan, worth at the HKMA rates of its days and at what the yuan of the same
-- month of the year before were worth, so that growth in Hong Kong dollars parts into trade and currency.

with daily as (
    select * from {{ ref('int_orders__daily') }}
),

rates as (
    select * from {{ ref('int_rates__periods') }}
),

open_build as (
    select
        build_no,
        {{ last_complete_date(['platform_orders']) }} as last_complete_date
    from {{ ref('stg_ops__open_build') }}
),

by_day as (
    select
        day,
        platform,
        sum(paid_cny) as paid_cny
    from daily
    group by day, platform
),

monthly as (
    select
        {{ month_of('by_day.day') }} as month,
        by_day.platform,
        sum(by_day.paid_cny) as paid_cny,
        case when count(rates.hkd_per_cny) = count(*) then sum(by_day.paid_cny * rates.hkd_per_cny) end as paid_hkd,
        max(case when {{ awaits_rate('rates', 'by_day.day') }} then 1 else 0 end) as awaits_rate
    from by_day
    left join rates on {{ in_force_on('rates', 'by_day.day') }}
    group by {{ month_of('by_day.day') }}, by_day.platform
),

compared as (
    select
        monthly.*,
        before.paid_cny as year_before_paid_cny,
        before.paid_hkd as year_before_paid_hkd,
        monthly.paid_cny * before.paid_hkd / nullif(before.paid_cny, 0) as constant_rate_hkd
    from monthly
    left join monthly as before
        on
            monthly.platform = before.platform
            and monthly.month = {{ dbt.dateadd('month', 12, 'before.month') }}
            and {{ first_month('platform_orders') }} < before.month
),

final as (
    select
        compared.month,
        compared.platform,
        cast(compared.paid_cny as numeric(20, 2)) as paid_cny,
        cast(compared.paid_hkd as numeric(20, 2)) as paid_hkd,
        cast(compared.paid_hkd / nullif(compared.paid_cny, 0) as numeric(12, 6)) as hkd_per_cny,
        cast(compared.year_before_paid_cny as numeric(20, 2)) as year_before_paid_cny,
        cast(compared.year_before_paid_hkd as numeric(20, 2)) as year_before_paid_hkd,
        cast(compared.constant_rate_hkd as numeric(20, 2)) as paid_at_year_before_rate_hkd,
        cast(100 * (compared.paid_hkd / nullif(compared.year_before_paid_hkd, 0) - 1) as numeric(12, 4)) as growth_hkd_pct,
        cast(
            100 * (compared.constant_rate_hkd / nullif(compared.year_before_paid_hkd, 0) - 1) as numeric(12, 4)
        ) as growth_constant_rate_pct,
        cast(compared.paid_hkd - compared.constant_rate_hkd as numeric(20, 2)) as currency_effect_hkd,
        {{ month_may_grow('platform_orders', 'compared.month', 'open_build.last_complete_date') }}
        or compared.awaits_rate = 1
        or compared.paid_hkd is null as is_provisional,
        open_build.last_complete_date,
        cast('shops that share their data' as text) as coverage_note,
        open_build.build_no as release_no
    from compared
    cross join open_build
)

select * from final
