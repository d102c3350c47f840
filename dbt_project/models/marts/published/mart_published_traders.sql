-- One row per month, industry section and size class with an SME that declared imports or exports, and per sum (`*`): how many
-- they are. Cells that would tell of one enterprise are empty, and so are others that would give them away.
with cells as (
    select * from {{ ref('int_published__shown') }} where table_name = 'traders'
),

open_build as (
    {{ release_columns(['customs_declarations']) }}
),

final as (
    select
        cells.period as movement_month,
        cells.row_key as industry_section,
        cells.column_key as sme_class,
        cast(cells.value as bigint) as enterprise_count,
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
