-- One row per month of movement, direction, industry and size class: declarations, and how many of them were first lodged
-- after they were due, amended since, or lodged by an agent. The late and the amended still grow for weeks.

with declared as (
    {{ declared_by_all() }}
),

smes as (
    select * from {{ ref('dim_sme') }}
),

sums as (
    select
        declared.movement_month,
        case when declared.flow = 'import' then 'import' else 'export' end as trade_direction,
        coalesce(smes.industry_section, 'unknown') as industry_section,
        {{ declarant_class('smes') }} as sme_class,
        {{ declarant_counts('smes') }} as counts_as_sme,
        sum(declared.declaration_count) as declaration_count,
        sum(declared.late_declaration_count) as late_declaration_count,
        sum(declared.amended_declaration_count) as amended_declaration_count,
        sum(declared.agent_declaration_count) as agent_declaration_count,
        sum(declared.missing_line_count) as missing_line_count,
        {{ any_true('declared.is_provisional') }} as is_provisional,
        {{ any_true('declared.is_fully_covered') }} as is_fully_covered,
        max(declared.last_complete_date) as last_complete_date,
        max(declared.release_no) as release_no
    from declared
    left join smes on declared.sme_id = smes.sme_id
    group by
        declared.movement_month,
        case when declared.flow = 'import' then 'import' else 'export' end,
        coalesce(smes.industry_section, 'unknown'),
        {{ declarant_class('smes') }},
        {{ declarant_counts('smes') }}
),

final as (
    select
        movement_month,
        trade_direction,
        industry_section,
        sme_class,
        counts_as_sme,
        cast(declaration_count as bigint) as declaration_count,
        cast(late_declaration_count as bigint) as late_declaration_count,
        cast(amended_declaration_count as bigint) as amended_declaration_count,
        cast(agent_declaration_count as bigint) as agent_declaration_count,
        cast(declaration_count - agent_declaration_count as bigint) as self_declaration_count,
        cast({{ shown_from('declaration_count', '1.0 * late_declaration_count / declaration_count') }} as numeric(9, 6)) as late_share,
        cast({{ shown_from('declaration_count', '1.0 * amended_declaration_count / declaration_count') }} as numeric(9, 6)) as amended_share,
        cast({{ shown_from('declaration_count', '1.0 * agent_declaration_count / declaration_count') }} as numeric(9, 6)) as agent_share,
        cast(missing_line_count as bigint) as missing_line_count,
        is_provisional,
        is_fully_covered,
        {{ is_quotable('is_provisional', 'is_fully_covered') }} as is_quotable,
        last_complete_date,
        cast('declared trade' as {{ dbt.type_string() }}) as coverage_note,
        release_no
    from sums
)

select * from final
