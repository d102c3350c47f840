-- One row per measure: first and last month of sales that is there whole and that no later report changes.
{{ config(materialized='view') }}

with coverage as (
    select * from {{ ref('int_feeds__completeness') }}
),

spans as (
    {%- for measure, feed in {'exports': 'customs_declarations', 'online_net_sales': 'platform_orders'}.items() %}
        select
            '{{ measure }}' as measure,
            cast({{ dbt.dateadd('month', 1, month_of('first_date')) }} as date) as first_month,
            {{ last_settled_month(feed, 'last_complete_date') }} as last_month
        from coverage
        where feed = '{{ feed }}'
        {%- if not loop.last %}
            union all
        {%- endif %}
    {%- endfor %}
),

final as (
    select * from spans where first_month <= last_month
)

select * from final
