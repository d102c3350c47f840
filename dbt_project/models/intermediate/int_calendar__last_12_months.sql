-- One row: the last 12 months whose declarations, orders and insured shipments can grow no more.
{{ config(materialized='table') }}

with known as (
    {% for feed in ['customs_declarations', 'platform_orders', 'hkecic_shipments'] %}
        select month from ({{ known_until(feed) }}) as {{ feed }}
        {{ 'union all' if not loop.last }}
    {% endfor %}
),

final as (
    select
        cast({{ dbt.dateadd('month', -11, 'min(month)') }} as date) as first_month,
        min(month) as last_month,
        cast({{ dbt.last_day('min(month)', 'month') }} as date) as last_day
    from known
)

select * from final
