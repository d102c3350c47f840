{#- Schemas are named as configured: the release renames `build`, and nothing else may carry its name. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or 'build') | trim }}
{%- endmacro %}
