-- One row per SME, measure and month: exports as declared (FOB), and sales online as paid less what was refunded since.
{{ config(materialized='view') }}

with links as (
    select * from {{ ref('int_sme__linked') }}
),

trade as (
    select * from {{ ref('int_trade__monthly') }} where flow <> 'import'
),

orders as (
    select * from {{ ref('int_orders__daily') }}
),

rates as (
    select * from {{ ref('int_rates__days') }}
),

exports as (
    select
        links.sme_id,
        'exports' as measure,
        trade.month,
        sum(trade.value_hkd) as value_hkd
    from trade
    inner join links on links.source = 'number' and trade.trader_id = links.source_key
    group by links.sme_id, trade.month
),

online_sales as (
    select
        links.sme_id,
        'online_net_sales' as measure,
        {{ month_of('orders.day') }} as month,
        sum((orders.paid_cny - orders.refunded_cny) * rates.hkd_per_cny) as value_hkd
    from orders
    inner join links
        on
            links.source = 'shop'
            and links.source_key = {{ shop_key('orders') }}
    inner join rates on orders.day = rates.day
    group by links.sme_id, {{ month_of('orders.day') }}
),

final as (
    select * from exports
    union all
    select * from online_sales
)

select * from final
