-- One row per cell and sum of a published table, its value left empty where it would tell of one enterprise or give such a
-- cell away: the only way from the cells to what is published. What is left out is known just before the marts are made. A
-- month that a release has shown stays as it was shown: the difference would be what one enterprise declared since.
{{ config(materialized='view') }}

with cells as (
    select * from {{ ref('int_published__cells') }}
),

left_out as (
    select * from {{ ref('stg_ops__suppressed_cells') }}
),

shown_before as (
    select * from {{ ref('stg_ops__published_cells') }}
),

open_build as (
    {{ release_columns(months_back={'first_month': 23}) }}
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
    union all
    select
        shown_before.table_name,
        shown_before.series,
        shown_before.period,
        shown_before.row_key,
        shown_before.column_key,
        shown_before.value,
        shown_before.is_suppressed
    from shown_before
    inner join open_build on shown_before.period >= open_build.first_month
)

select * from final
