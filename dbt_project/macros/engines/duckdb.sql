{#- DuckDB: one process has the file open, and the marts get keys and policies where they are handed over (engine/duckdb.py). -#}

{#- No reader of PostgreSQL sees the file. -#}
{% macro duckdb__read_under_consent() %}{% endmacro %}

{#- It joins and looks up by hashes and by the least and greatest value of each block, and keeps an index in memory. -#}
{% macro duckdb__get_create_index_sql(relation, index_dict) %}{% endmacro %}

{#- A list of times, unnested: the table function takes no columns of other tables. -#}
{% macro duckdb__days_between(first_day, last_day) -%}
    select unnest(cast(generate_series(cast({{ first_day }} as date), cast({{ last_day }} as date), interval 1 day) as date[])) as day
{%- endmacro %}

{#- A whole number as elsewhere, not a bigint: contracts of marts compare types. -#}
{% macro duckdb__datediff(first_date, second_date, datepart) -%}
    cast(date_diff('{{ datepart }}', cast({{ first_date }} as timestamp), cast({{ second_date }} as timestamp)) as integer)
{%- endmacro %}

{#- A number spelled otherwise, as 1e3 or with spaces, is a number to try_cast. -#}
{% macro duckdb__json_number(column, key) -%}
    case
        when regexp_full_match({{ column }} ->> '{{ key }}', '-?[0-9]{1,18}([.][0-9]{1,6})?')
            then cast({{ column }} ->> '{{ key }}' as numeric(28, 6))
    end
{%- endmacro %}
