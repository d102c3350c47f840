{#- Schemas are named as configured: the release renames `build`, and nothing else may carry its name. Those of a look-back that
    dbt's command builds are named after its schema. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set schema, look_back = (custom_schema_name or 'build') | trim, env_var('SAMPAN_DBT_SCHEMA', 'build') -%}
    {{ schema if look_back == 'build' else look_back if schema == 'build' else look_back ~ '_' ~ schema }}
{%- endmacro %}
