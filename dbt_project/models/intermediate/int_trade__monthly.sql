-- One row per trader, month of movement, flow, market and HKHS chapter, from the current lines of declarations: merchandise, with
-- gold beside it as C&SD publishes it.
{{
    config(
        incremental_strategy='replace_changed',
        changed='int_trade__changed',
        changed_key=['trader_id', 'month'],
        indexes=[
            {'columns': ['trader_id', 'month', 'flow', 'market_csd_code', 'hs_chapter'], 'unique': true}
        ]
    )
}}

with current_versions as (
    select * from {{ ref('int_customs__lines_versioned') }} where is_current
),

all_versions as (
    select * from {{ ref('int_customs__lines_versioned') }}
),

changed as (
    select * from {{ ref('int_trade__changed') }}
),

gold_codes as (
    select * from {{ ref('gold_codes') }}
),

calendar as (
    select * from {{ ref('int_calendar__days') }}
),

lines as (
    select
        current_versions.*,
        {{ month_of('current_versions.movement_date') }} as month
    from current_versions
    {%- if is_incremental() %}
        where current_versions.movement_date >= (select min(changed.month) from changed)
    {%- endif %}
),

changed_lines as (
    select lines.*
    from lines
    {%- if is_incremental() %}
    inner join changed on lines.trader_id = changed.trader_id and lines.month = changed.month
    {%- endif %}
),

-- A declaration is counted at its first line, which is line 1 unless that one is missing.
declarations_without_line_1 as (
    select
        declaration_no,
        min(line_no) as line_no
    from changed_lines
    group by declaration_no
    having min(line_no) > 1
),

amended_declarations as (
    select distinct declaration_no
    from changed_lines
    where version > 1
),

-- Whether a declaration was late is a matter of its first version, and not known without it.
first_lodgements as (
    select
        all_versions.declaration_no,
        all_versions.lodged_at,
        row_number() over (
            partition by all_versions.declaration_no
            order by
                all_versions.business_date desc,
                all_versions.received_at desc,
                all_versions.batch_id desc,
                all_versions.line_no asc
        ) as recency
    from all_versions
    inner join amended_declarations on all_versions.declaration_no = amended_declarations.declaration_no
    where all_versions.version = 1
),

marked as (
    select
        changed_lines.*,
        {{ flow_of('changed_lines.form_type', 'changed_lines.origin_country_code') }} as flow,
        substring(changed_lines.hkhs_code, 1, 2) as hs_chapter,
        gold_codes.hkhs_code is not null as is_gold,
        case when changed_lines.line_no = coalesce(declarations_without_line_1.line_no, 1) then 1 else 0 end as declarations,
        {{ hong_kong_date(
            'case when changed_lines.version = 1 then changed_lines.lodged_at else first_lodgements.lodged_at end'
        ) }} as first_lodged_on,
        coalesce(
            calendar.declaration_due_on,
            {{ dbt.dateadd('day', days_to_settle('customs_declarations'), 'changed_lines.movement_date') }}
        ) as due_on
    from changed_lines
    left join calendar on changed_lines.movement_date = calendar.day
    left join declarations_without_line_1
        on changed_lines.declaration_no = declarations_without_line_1.declaration_no
    left join first_lodgements
        on changed_lines.declaration_no = first_lodgements.declaration_no and first_lodgements.recency = 1
    left join gold_codes on changed_lines.hkhs_code = gold_codes.hkhs_code
),

final as (
    select
        trader_id,
        month,
        flow,
        counterparty_country_code as market_csd_code,
        hs_chapter,
        sum(case when is_gold then 0 else value_hkd end) as value_hkd,
        sum(case when form_type in ('1B', '2B') and not is_gold then value_hkd else 0 end) as exempt_value_hkd,
        sum(case when is_gold then value_hkd else 0 end) as gold_value_hkd,
        sum(case when is_gold and form_type in ('1B', '2B') then value_hkd else 0 end) as exempt_gold_value_hkd,
        count(*) as line_count,
        sum(declarations) as declaration_count,
        sum(case when first_lodged_on > due_on then declarations else 0 end) as late_declaration_count,
        sum(case when version > 1 then declarations else 0 end) as amended_declaration_count,
        sum(case when agent_brn is not null then declarations else 0 end) as agent_declaration_count
    from marked
    group by trader_id, month, flow, counterparty_country_code, hs_chapter
)

select * from final
