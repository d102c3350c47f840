{#- A mart that banks read under consents: forced row-level security, and for each bank a policy with its own identifier as
    a constant and the consent checked when the row is read. The planner gets no statistics and no index but the primary key,
    which begins with the bank: neither an estimate nor the rows that a scan passes over tell of another bank's rows. -#}
{% macro read_under_consent() -%}
    {{ return(adapter.dispatch('read_under_consent', 'sampan')()) }}
{%- endmacro %}
{% macro default__read_under_consent() -%}
    {{ exceptions.raise_compiler_error(this ~ " needs row-level security, which this adapter has no macro for") }}
{%- endmacro %}
{% macro postgres__read_under_consent() -%}
    {%- for column in model.columns -%}
    alter table {{ this }} alter column {{ column }} set statistics 0;
    {% endfor -%}
    alter table {{ this }} enable row level security;
    alter table {{ this }} force row level security;
    create policy builder on {{ this }} to {{ target.user }} using (true) with check (true);
    {%- if execute %}
    {%- set query -%}
        select distinct consent.bank_id, pg_roles.rolname
        from ops.consent inner join pg_roles on pg_roles.rolname = 'bank_' || lower(consent.bank_id) order by 1
    {%- endset -%}
    {%- for bank_id, role in run_query(query) %}
    create policy {{ role }} on {{ this }} for select to {{ role }}
    using (bank_id = '{{ bank_id }}' and ops.consent_is_live(consent_id, bank_id, scope));
    {%- endfor %}
    {%- endif %}
{%- endmacro %}

{#- A predicate: a value is one of those in a text, which semicolons separate. -#}
{% macro among(value, list) -%}
    {{ dbt.concat(["';'", list, "';'"]) }} like {{ dbt.concat(["'%;'", value, "';%'"]) }}
{%- endmacro %}

{#- The kinds of data of which credit features are made; a consent may name others, which the platform does not hold. -#}
{% macro credit_scopes() -%}
    {% for scope in ['trade_declaration', 'payment', 'ecommerce', 'credit_reference'] %}
    select '{{ scope }}' as scope
    {{ 'union all' if not loop.last }}
    {% endfor %}
{%- endmacro %}
