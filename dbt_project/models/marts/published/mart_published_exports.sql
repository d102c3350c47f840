-- One row per month, flow, HKHS chapter and market with exports of SMEs, and per sum (`*`): their value. Cells that would tell of one
-- enterprise are empty, and so are others that would give them away.
with cells as (
    select * from {{ ref('int_published__shown') }} where table_name = 'exports'
),

open_build as (
    {{ release_columns(['customs_declarations']) }}
),

final as (
    select
        cells.period as movement_month,
        cells.series as flow,
        cells.row_key as hs_chapter,
        cells.column_key as market_csd_code,
        cast(cells.value as numeric(20, 2)) as export_value_hkd,
        cells.is_suppressed,
        {{ month_may_grow('customs_declarations', 'cells.period', 'open_build.last_complete_date') }} as is_provisional,
        -- Months that the history holds only in part are in no published table.
        {{
            is_quotable(
                month_may_grow('customs_declarations', 'cells.period', 'open_build.last_complete_date'), 'true'
            )
        }} as is_quotable,
        open_build.last_complete_date,
        cast('declared trade of SMEs, unknown sizes included; small cells left out' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from cells
    cross join open_build
)

select * from final
