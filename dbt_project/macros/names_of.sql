{#- The names of the entities in a feed, one row each, with what the feed says of who they are. `source` and `key` identify
    an entity; `number` is its registration number where the feed gives one, `merchant` what groups entities of one
    enterprise. A feed that gives `number` states who the entity is, were it only that it does not know. -#}
{% macro names_of(
    relation, source, key, names, number=none, basis='registration_number', registry_number=none, merchant=none,
    operator_uscc=none, on_register=false, stated_on='business_date'
) -%}
    {%- set unknown = 'cast(null as ' ~ dbt.type_string() ~ ')' -%}
    {%- for name in names %}
    select
        '{{ source }}' as source,
        {{ key }} as source_key,
        {{ name }} as name,
        {{ number or unknown }} as number,
        '{{ basis }}' as number_basis,
        {{ registry_number or unknown }} as registry_number,
        {{ merchant or unknown }} as merchant,
        {{ operator_uscc or unknown }} as operator_uscc,
        cast('{{ on_register | lower }}' as boolean) as is_on_register,
        cast('{{ (number is not none) | lower }}' as boolean) as is_stated,
        cast({{ stated_on }} as date) as stated_on,
        batch_id,
        business_date,
        received_at
    from {{ relation }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
{%- endmacro %}
