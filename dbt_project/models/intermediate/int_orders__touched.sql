-- One row per shop and day on which an order line that the build under way changed was placed or paid.
{{ config(materialized='view') }}

with lines as (
    select * from {{ ref('int_orders__lines_versioned') }}
),

open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

touched_lines as (
    select lines.*
    from lines
    where lines.build_no = (select open_build.build_no from open_build)
),

final as (
    select platform, store_id, {{ hong_kong_date('created_at') }} as day from touched_lines
    union distinct
    select platform, store_id, {{ hong_kong_date('paid_at') }} as day from touched_lines where paid_at is not null
)

select * from final
