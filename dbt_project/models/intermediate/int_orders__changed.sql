-- One row per shop and day on which an order line that the open build changed was placed or paid.
{{ config(materialized='view') }}

with days as (
    {{ changed_in_build(
        ref('int_orders__lines_versioned'),
        ['platform', 'store_id', hong_kong_date('created_at') ~ ' as placed_on', hong_kong_date('paid_at') ~ ' as paid_on']
    ) }}
)

select
    platform,
    store_id,
    placed_on as day
from days
union distinct
select
    platform,
    store_id,
    paid_on as day
from days
where paid_on is not null
