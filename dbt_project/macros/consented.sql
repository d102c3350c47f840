{#- Puts a mart that banks read under consents under forced row-level security; see ops.read_under_consent. -#}
{% macro read_under_consent() -%}
    {{ return(adapter.dispatch('read_under_consent', 'sampan')()) }}
{%- endmacro %}
{% macro default__read_under_consent() -%}
    {{ exceptions.raise_compiler_error(this ~ " needs row-level security, which this adapter has no macro for") }}
{%- endmacro %}

{#- A predicate: a value is one of those in a text, which semicolons separate. -#}
{% macro among(value, list) -%}
    {{ dbt.concat(["';'", list, "';'"]) }} like {{ dbt.concat(["'%;'", value, "';%'"]) }}
{%- endmacro %}

{#- The kinds of data behind credit features; a consent may name others, which the platform does not hold. -#}
{% macro credit_scopes() -%}
    {% for scope in ['trade_declaration', 'payment', 'ecommerce', 'credit_reference'] %}
    select '{{ scope }}' as consent_scope
    {{ 'union all' if not loop.last }}
    {% endfor %}
{%- endmacro %}
