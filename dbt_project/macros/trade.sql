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
