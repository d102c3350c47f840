{#- Schemas are named as configured: the release renames `build`, and nothing else may carry its name. Marts as known on an
    earlier date go to the target's schema instead, and what they are made from to schemas named after it. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set wanted = (custom_schema_name or 'build') | trim -%}
    {%- if target.schema == 'build' -%}
        {{ wanted }}
    {%- elif wanted == 'build' -%}
        {{ target.schema }}
    {%- else -%}
        {{ target.schema }}_{{ wanted }}
    {%- endif -%}
{%- endmacro %}
