-- One row per month with an SME that declared imports or exports, industry section and size class, and per sum (`*`): how many they
-- are. Cells that would tell of one enterprise are empty, and so are others that would give them away, and those without one:
-- where a class of an industry has one enterprise, a row that is there only if it declared would say so.
with cells as (
    select * from {{ ref('int_published__shown') }} where table_name = 'traders'
),

months as (
    select distinct period from cells
),

industries as (
    select * from {{ ref('dim_industry') }}
),

size_classes as (
    select * from {{ ref('dim_size_class') }} where sme_class not in ('large', 'individual')
),

open_build as (
    {{ release_columns(['customs_declarations']) }}
),

final as (
    select
        months.period as movement_month,
        industries.industry_section,
        size_classes.sme_class,
        cast(cells.value as bigint) as enterprise_count,
        coalesce(cells.is_suppressed, true) as is_suppressed,
        {{ month_may_grow('customs_declarations', 'months.period', 'open_build.last_complete_date') }} as is_provisional,
        -- Months that the history holds only in part are in no published table.
        {{
            is_quotable(
                month_may_grow('customs_declarations', 'months.period', 'open_build.last_complete_date'), 'true'
            )
        }} as is_quotable,
        open_build.last_complete_date,
        cast('declared trade of SMEs, unknown sizes included; small cells left out' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from months
    cross join industries
    cross join size_classes
    cross join open_build
    left join cells
        on
            months.period = cells.period
            and industries.industry_section = cells.row_key
            and size_classes.sme_class = cells.column_key
)

select * from final
