-- One row per store and day of Design Gallery whose sales the build under way changed.
{{ config(materialized='view') }}

with sales as (
    select * from {{ ref('int_gallery__versioned') }}
),

open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

final as (
    select distinct
        store,
        sale_date as day
    from sales
    where build_no = (select open_build.build_no from open_build)
)

select * from final
