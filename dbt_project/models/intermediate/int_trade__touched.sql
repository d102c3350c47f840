-- One row per trader and month whose lines the build under way changed, added or withdrew.
{{ config(materialized='view') }}

with lines as (
    select * from {{ ref('int_customs__lines_versioned') }}
),

open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

final as (
    select distinct
        lines.trader_id,
        {{ month_of('lines.movement_date') }} as month
    from lines
    where lines.build_no = (select open_build.build_no from open_build)
)

select * from final
