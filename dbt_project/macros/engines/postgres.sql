{#- PostgreSQL: its planner, keys and policies are told of a table where it is written. -#}

{% macro postgres__assert_step_claimed() %}select ops.assert_step_claimed(){% endmacro %}

{% macro postgres__analyze() %}analyze {{ this }}{% endmacro %}

{% macro postgres__add_primary_key(columns) -%}
    alter table {{ this }} add primary key ({{ columns | join(', ') }})
{%- endmacro %}

{% macro postgres__add_foreign_key(column, dimension, key) -%}
    alter table {{ this }} add foreign key ({{ column }}) references {{ dimension }} ({{ key }});
{%- endmacro %}

{% macro postgres__read_under_consent() -%}
    select ops.read_under_consent('{{ this }}')
{%- endmacro %}

{#- A series of times, as there is none of days. -#}
{% macro postgres__days_between(first_day, last_day) -%}
    select cast(series.moment as date) as day from generate_series({{ first_day }}, {{ last_day }}, interval '1 day') as series (moment)
{%- endmacro %}

{#- Older than try_cast: a pattern says which texts are numbers. -#}
{% macro postgres__json_number(column, key) -%}
    case
        when ({{ column }} ->> '{{ key }}') ~ '^-?[0-9]{1,18}([.][0-9]{1,6})?$' then cast({{ column }} ->> '{{ key }}' as numeric)
    end
{%- endmacro %}
