-- One row per cell and sum of a published table, its value left empty where it would tell of one enterprise or give such a
-- cell away: the only way from the cells to what is published. What is left out is known just before the marts are made.
{{ config(materialized='view') }}

with cells as (
    select * from {{ ref('int_published__cells') }}
),

left_out as (
    select * from {{ ref('stg_ops__suppressed_cells') }}
),

final as (
    select
        cells.table_name,
        cells.series,
        cells.period,
        cells.row_key,
        cells.column_key,
        case when left_out.table_name is null then cells.value end as value,
        left_out.table_name is not null as is_suppressed
    from cells
    left join left_out
        on
            cells.table_name = left_out.table_name
            and cells.series = left_out.series
            and cells.period = left_out.period
            and cells.row_key = left_out.row_key
            and cells.column_key = left_out.column_key
)

select * from final
