{#- The flow of a declaration line: imports by the form, exports by whether the goods were made in Hong Kong. -#}
{% macro flow_of(form_type, origin_country_code) -%}
    case
        when {{ form_type }} in ('1', '1A', '1B') then 'import'
        when {{ origin_country_code }} = '690' then 'domestic_export'
        else 're_export'
    end
{%- endmacro %}

{#- The key of a shop among the identifiers of enterprises: its number counts within its platform only. -#}
{% macro shop_key(alias=none) -%}
    {%- set prefix = alias ~ '.' if alias else '' -%}
    {{ dbt.concat([prefix ~ 'platform', "':'", prefix ~ 'store_id']) }}
{%- endmacro %}

{#- An aggregate: the Herfindahl-Hirschman index, the sum of squared shares; 1 is all in one, empty when the total is 0. -#}
{% macro herfindahl(value) -%}
    sum({{ value }} * {{ value }}) / nullif(sum({{ value }}) * sum({{ value }}), 0)
{%- endmacro %}

{#- Declared trade by sme_id, month, flow, market and HKHS chapter. `links` selects number and sme_id of those who count. -#}
{% macro declared_trade(links) -%}
with monthly as (
    select * from {{ ref('int_trade__monthly') }}
),

links as (
    {{ links }}
),

countries as (
    select * from {{ ref('csd_countries') }}
),

open_build as (
    {{ release_columns(['customs_declarations']) }}
),

-- Lines in quarantine, where the declaration that they belong to is counted.
missing as (
    select
        links.sme_id,
        lines_missing.month,
        lines_missing.flow,
        lines_missing.market_csd_code,
        lines_missing.hs_chapter,
        sum(lines_missing.missing_line_count) as missing_line_count
    from {{ ref('int_trade__lines_missing') }} as lines_missing
    inner join links on lines_missing.trader_id = links.number
    group by
        links.sme_id, lines_missing.month, lines_missing.flow, lines_missing.market_csd_code, lines_missing.hs_chapter
),

by_sme as (
    select
        links.sme_id,
        monthly.month,
        monthly.flow,
        monthly.market_csd_code,
        monthly.hs_chapter,
        sum(monthly.value_hkd) as value_hkd,
        sum(monthly.exempt_value_hkd) as exempt_value_hkd,
        sum(monthly.gold_value_hkd) as gold_value_hkd,
        sum(monthly.line_count) as line_count,
        sum(monthly.declaration_count) as declaration_count,
        sum(monthly.late_declaration_count) as late_declaration_count,
        sum(monthly.amended_declaration_count) as amended_declaration_count,
        sum(monthly.agent_declaration_count) as agent_declaration_count
    from monthly
    inner join links on monthly.trader_id = links.number
    group by links.sme_id, monthly.month, monthly.flow, monthly.market_csd_code, monthly.hs_chapter
),

final as (
    select
        by_sme.sme_id,
        by_sme.month as movement_month,
        by_sme.flow,
        by_sme.market_csd_code,
        countries.iso2_code as market_iso2_code,
        by_sme.hs_chapter,
        cast(by_sme.value_hkd as numeric(20, 2)) as value_hkd,
        cast(by_sme.exempt_value_hkd as numeric(20, 2)) as exempt_value_hkd,
        cast(by_sme.gold_value_hkd as numeric(20, 2)) as gold_value_hkd,
        cast(by_sme.line_count as bigint) as line_count,
        cast(coalesce(missing.missing_line_count, 0) as bigint) as missing_line_count,
        cast(by_sme.declaration_count as bigint) as declaration_count,
        cast(by_sme.late_declaration_count as bigint) as late_declaration_count,
        cast(by_sme.amended_declaration_count as bigint) as amended_declaration_count,
        cast(by_sme.agent_declaration_count as bigint) as agent_declaration_count,
        {{ month_may_grow('customs_declarations', 'by_sme.month', 'open_build.last_complete_date') }} as is_provisional,
        coalesce(by_sme.month > {{ first_month('customs_declarations') }}, false) as is_fully_covered,
        {{ is_quotable(
            month_may_grow('customs_declarations', 'by_sme.month', 'open_build.last_complete_date'),
            'by_sme.month > ' ~ first_month('customs_declarations')
        ) }} as is_quotable,
        open_build.last_complete_date,
        cast('declared trade' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from by_sme
    cross join open_build
    left join countries on by_sme.market_csd_code = countries.csd_code
    left join missing
        on
            by_sme.sme_id = missing.sme_id
            and by_sme.month = missing.month
            and by_sme.flow = missing.flow
            and by_sme.market_csd_code = missing.market_csd_code
            and by_sme.hs_chapter = missing.hs_chapter
)

select * from final
{%- endmacro %}

{#- Declared trade of enterprises and of persons. Only sums over many of them leave the platform. A mart has its columns in the
    order of its description: a union by position would mix them up. -#}
{% macro declared_by_all() -%}
    {%- set columns = [
        'sme_id', 'movement_month', 'flow', 'market_csd_code', 'market_iso2_code', 'hs_chapter', 'value_hkd', 'gold_value_hkd',
        'declaration_count', 'late_declaration_count', 'amended_declaration_count', 'agent_declaration_count',
        'missing_line_count', 'is_provisional', 'is_fully_covered', 'last_complete_date', 'release_no'
    ] -%}
    select
        {{ columns | join(',\n        ') }}
    from {{ ref('mart_sme_trade_monthly') }}
    union all
    select
        {{ columns | join(',\n        ') }}
    from {{ ref('int_persons__trade_monthly') }}
{%- endmacro %}
