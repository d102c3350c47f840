-- One row per cell and sum of a published table, before any is left out: value, enterprises behind it and the two greatest of
-- their shares. `*` means all rows or columns. Nothing is summed over flows or months, so each series and month is a table of
-- its own.
{{ config(materialized='table') }}

with contributions as (
    select * from {{ ref('int_published__contributions') }} where is_published
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

ranked as (
    select
        with_sums.*,
        row_number() over (
            partition by table_name, series, period, row_key, column_key
            order by value desc
        ) as place
    from with_sums
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
        max(value) as largest_value,
        max(case when place = 2 then value end) as second_value
    from ranked
    group by table_name, series, period, row_key, column_key
)

select * from final
