-- One row per shop, day, category and customs regime, as in int_orders__daily, with the enterprise behind the shop and the shopping
-- day that it is. `cluster_key` is the enterprise or, where it is not known, the shop.
{{ config(materialized='view') }}

with orders as (
    select * from {{ ref('int_orders__daily') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'shop'
),

shopping_days as (
    select * from {{ ref('shopping_days') }}
),

final as (
    select
        orders.*,
        {{ shop_key('orders') }} as shop,
        {{ month_of('orders.day') }} as month,
        links.sme_id,
        coalesce(links.sme_id, {{ shop_key('orders') }}) as cluster_key,
        shopping_days.shopping_day
    from orders
    left join links on links.source_key = {{ shop_key('orders') }}
    left join shopping_days on orders.day between shopping_days.first_day and shopping_days.last_day
)

select * from final
