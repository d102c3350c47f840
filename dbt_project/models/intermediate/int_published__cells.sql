-- One row per cell and sum of a published table, before any is left out: value, enterprises behind it and the greatest of
-- their shares. `*` means all rows or columns. Nothing is summed over flows or months, so each series and month is a table of
-- its own.
{{ config(materialized='table') }}

with contributions as (
    select * from {{ ref('int_published__contributions') }}
),

with_sums as (
    select
        table_name,
        series,
        period,
        coalesce(row_key, '*') as row_key,
        coalesce(column_key, '*') as column_key,
        sme_id,
        sum(value) as value
    from contributions
    group by table_name, series, period, sme_id, cube (row_key, column_key)
),

final as (
    select
        table_name,
        series,
        period,
        row_key,
        column_key,
        sum(value) as value,
        count(*) as contributor_count,
        max(value) as largest_value
    from with_sums
    group by table_name, series, period, row_key, column_key
)

select * from final
