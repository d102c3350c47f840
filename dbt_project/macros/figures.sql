{#- An amount in Hong Kong dollars: as it came, else from yuan. A sum of money has the most digits that an engine has: made
    narrower, it leaves room for the decimals of the product beside it. -#}
{% macro in_hkd(hkd, cny, hkd_per_cny) -%}
    coalesce(cast({{ hkd }} as numeric(20, 2)), {{ cny }} * {{ hkd_per_cny }})
{%- endmacro %}

{#- Published figures of `deliveries`, with figure_status (reported, nil, not_available), value_hkd and unit_published. Figure and
    unit are swapped at times: the figure is the one without letters. A - is nil in any unit, .. is not available, and so is
    a number in a unit that is not known here. `units` is how many Hong Kong dollars each unit is. -#}
{% macro published_figures(units) -%}
righted as (
    select
        deliveries.*,
        case when upper(figure) <> lower(figure) then unit else figure end as figure_text,
        case when upper(figure) <> lower(figure) then figure else unit end as unit_published
    from deliveries
),

parsed as (
    select
        righted.*,
        case
            when figure_text = '-' then 0
            {% for unit, dollars in units.items() -%}
            when coalesce(figure_text, '..') <> '..' and unit_published = {{ dbt.string_literal(dbt.escape_single_quotes(unit)) }}
                then {{ dollars }} * cast(replace(figure_text, ',', '') as numeric(28, 6))
            {% endfor -%}
        end as value_hkd
    from righted
),

figures as (
    select
        parsed.*,
        case
            when figure_text = '-' then 'nil'
            when value_hkd is null then 'not_available'
            else 'reported'
        end as figure_status
    from parsed
)
{%- endmacro %}
