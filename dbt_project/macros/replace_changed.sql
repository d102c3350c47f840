{#- Incremental strategy: deletes all rows of the keys that the relation `changed` lists, and inserts those that the
    model has now. Unlike delete+insert, this also removes rows that no longer exist.
    `config(changed=..., changed_key=[...])`. -#}
{% macro get_incremental_replace_changed_sql(arg_dict) -%}
    {%- set target = arg_dict['target_relation'] -%}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) -%}
    {%- set changed = config.require('changed') -%}
    delete from {{ target }}
    where exists (
        select 1
        from {{ ref(changed) }} as changed
        where
            {%- for column in config.require('changed_key') %}
            changed.{{ column }} = {{ target.identifier }}.{{ column }}{{ ' and' if not loop.last }}
            {%- endfor %}
    );
    insert into {{ target }} ({{ columns }})
    select {{ columns }} from {{ arg_dict['temp_relation'] }}
{%- endmacro %}
