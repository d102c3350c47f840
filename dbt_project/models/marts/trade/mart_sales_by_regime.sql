-- One row per month, customs regime, platform and category of orders on Mainland platforms, before and after refunds. Placed
-- is by day of order (GMV), paid by day of payment; yuan turns into Hong Kong dollars at the HKMA rate of that day.

with daily as (
    select * from {{ ref('int_orders__daily') }}
),

regimes as (
    select * from {{ ref('customs_regimes') }}
),

rates as (
    select * from {{ ref('int_rates__days') }}
),

open_build as (
    {{ release_columns(['platform_orders']) }}
),

by_day as (
    select
        day,
        customs_regime,
        platform,
        category,
        sum(placed_cny) as placed_cny,
        sum(paid_cny) as paid_cny,
        sum(refunded_cny) as refunded_cny,
        sum(placed_order_count) as placed_order_count,
        sum(paid_order_count) as paid_order_count
    from daily
    group by day, customs_regime, platform, category
),

priced as (
    select
        by_day.*,
        {{ month_of('by_day.day') }} as month,
        rates.hkd_per_cny,
        rates.awaits_rate
    from by_day
    left join rates on by_day.day = rates.day
),

summed as (
    select
        priced.month as sales_month,
        priced.customs_regime,
        priced.platform,
        priced.category,
        max(regimes.name_en) as regime_name_en,
        max(regimes.regime_direction) as regime_direction,
        cast(sum(priced.placed_cny) as numeric(20, 2)) as placed_cny,
        cast(sum(priced.paid_cny) as numeric(20, 2)) as paid_cny,
        cast(sum(priced.refunded_cny) as numeric(20, 2)) as refunded_cny,
        cast(sum(priced.paid_cny - priced.refunded_cny) as numeric(20, 2)) as net_cny,
        cast(sum(priced.placed_cny * priced.hkd_per_cny) as numeric(20, 2)) as placed_hkd,
        cast(sum(priced.paid_cny * priced.hkd_per_cny) as numeric(20, 2)) as paid_hkd,
        cast(sum(priced.refunded_cny * priced.hkd_per_cny) as numeric(20, 2)) as refunded_hkd,
        cast(sum((priced.paid_cny - priced.refunded_cny) * priced.hkd_per_cny) as numeric(20, 2)) as net_hkd,
        cast(sum(priced.placed_order_count) as bigint) as placed_order_count,
        cast(sum(priced.paid_order_count) as bigint) as paid_order_count,
        {{ month_may_grow('platform_orders', 'priced.month', 'max(open_build.last_complete_date)') }}
        or {{ any_true('priced.awaits_rate') }}
        or count(priced.hkd_per_cny) < count(*) as is_provisional,
        coalesce(priced.month > {{ first_month('platform_orders') }}, false) as is_fully_covered,
        max(open_build.last_complete_date) as last_complete_date,
        cast('shops that share their data' as {{ dbt.type_string() }}) as coverage_note,
        max(open_build.release_no) as release_no
    from priced
    cross join open_build
    left join regimes on priced.customs_regime = regimes.customs_regime
    group by priced.month, priced.customs_regime, priced.platform, priced.category
),

final as (
    select
        summed.*,
        {{ is_quotable('summed.is_provisional', 'summed.is_fully_covered') }} as is_quotable
    from summed
)

select * from final
