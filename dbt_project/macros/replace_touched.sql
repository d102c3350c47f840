{#- Incremental strategy: whatever the relation `touched` lists is deleted, and what the model says of it now is put in
    its place. Unlike delete+insert this also removes what is no more. `config(touched=..., touched_key=[...])`. -#}
{% macro get_incremental_replace_touched_sql(arg_dict) -%}
    {%- set target = arg_dict['target_relation'] -%}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) -%}
    {%- set touched = config.require('touched') -%}
    delete from {{ target }}
    where exists (
        select 1
        from {{ ref(touched) }} as touched
        where
            {%- for column in config.require('touched_key') %}
            touched.{{ column }} = {{ target.identifier }}.{{ column }}{{ ' and' if not loop.last }}
            {%- endfor %}
    );
    insert into {{ target }} ({{ columns }})
    select {{ columns }} from {{ arg_dict['temp_relation'] }}
{%- endmacro %}
