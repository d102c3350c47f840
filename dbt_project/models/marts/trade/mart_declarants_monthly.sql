-- One row per month of movement, industry and size class: how many enterprises made at least one declaration. Counts add up
-- over industries and sizes, never over months. Industry and size are those on the register now, not those of the month.

with declared as (
    {{ declared_by_all() }}
),

smes as (
    select * from {{ ref('dim_sme') }}
),

by_sme as (
    select
        sme_id,
        movement_month,
        max(case when flow = 'import' then 1 else 0 end) as imports,
        max(case when flow <> 'import' then 1 else 0 end) as exports,
        sum(declaration_count) as declaration_count,
        sum(missing_line_count) as missing_line_count,
        {{ any_true('is_provisional') }} as is_provisional,
        {{ any_true('is_fully_covered') }} as is_fully_covered,
        max(last_complete_date) as last_complete_date,
        max(release_no) as release_no
    from declared
    group by sme_id, movement_month
),

final as (
    select
        by_sme.movement_month,
        coalesce(smes.industry_section, 'unknown') as industry_section,
        {{ declarant_class('smes') }} as sme_class,
        {{ declarant_counts('smes') }} as counts_as_sme,
        cast(count(*) as bigint) as declarant_count,
        cast(sum(by_sme.imports) as bigint) as importer_count,
        cast(sum(by_sme.exports) as bigint) as exporter_count,
        cast(sum(by_sme.declaration_count) as bigint) as declaration_count,
        cast(sum(by_sme.missing_line_count) as bigint) as missing_line_count,
        {{ any_true('by_sme.is_provisional') }} as is_provisional,
        {{ any_true('by_sme.is_fully_covered') }} as is_fully_covered,
        {{ is_quotable(any_true('by_sme.is_provisional'), any_true('by_sme.is_fully_covered')) }} as is_quotable,
        max(by_sme.last_complete_date) as last_complete_date,
        cast('declared trade' as {{ dbt.type_string() }}) as coverage_note,
        max(by_sme.release_no) as release_no
    from by_sme
    left join smes on by_sme.sme_id = smes.sme_id
    group by
        by_sme.movement_month,
        coalesce(smes.industry_section, 'unknown'),
        {{ declarant_class('smes') }},
        {{ declarant_counts('smes') }}
)

select * from final
