-- One row per period, shop and day that the platform counted: its live streams and what it was paid. Periods are each festival, with
-- the shops that took part, and the last 12 months. Shops of large enterprises, and those that do not share their orders,
-- are left out.
{{ config(materialized='table') }}

with traffic as (
    select
        *,
        {{ shop_key() }} as shop
    from {{ ref('int_traffic__versioned') }}
    where is_current
),

orders as (
    select * from {{ ref('int_shops__daily') }}
),

smes as (
    select * from {{ ref('dim_sme') }}
),

participants as (
    select * from {{ ref('int_festival__participants') }}
),

last_12_months as (
    select * from {{ ref('int_calendar__last_12_months') }}
),

shops as (
    select
        orders.shop,
        orders.cluster_key,
        coalesce(smes.sme_class, 'unknown') as sme_class
    from orders
    left join smes on orders.sme_id = smes.sme_id
    where {{ counts_as_sme('smes.is_sme') }}
    group by orders.shop, orders.cluster_key, coalesce(smes.sme_class, 'unknown')
),

watched as (
    select
        participants.event_id as period,
        {{ shop_key('participants') }} as shop,
        participants.first_day as period_first_day,
        participants.last_day as period_last_day
    from participants
    union all
    select
        'last_12_months' as period,
        shops.shop,
        last_12_months.first_month as period_first_day,
        last_12_months.last_day as period_last_day
    from shops
    cross join last_12_months
),

paid as (
    select
        shop,
        day,
        sum(paid_cny) as paid_cny
    from orders
    group by shop, day
),

shopping_days as (
    select * from {{ ref('shopping_days') }}
),

final as (
    select
        watched.period,
        watched.period_first_day,
        watched.period_last_day,
        traffic.platform,
        shops.shop,
        shops.cluster_key,
        shops.sme_class,
        traffic.stat_date as day,
        shopping_days.shopping_day,
        traffic.live_session_count,
        traffic.live_minutes,
        traffic.live_viewer_count,
        traffic.live_payment_cny,
        coalesce(paid.paid_cny, 0) as paid_cny
    from watched
    inner join shops on watched.shop = shops.shop
    inner join traffic
        on watched.shop = traffic.shop and traffic.stat_date between watched.period_first_day and watched.period_last_day
    left join paid on traffic.shop = paid.shop and traffic.stat_date = paid.day
    left join shopping_days on traffic.stat_date between shopping_days.first_day and shopping_days.last_day
)

select * from final
