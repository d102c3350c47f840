{#- Spark: tables are folders of Parquet, which have no rows to delete: a table that changed is written again. The marts get keys,
    policies and comments where they are handed over (engine/spark.py). -#}

{#- No reader of PostgreSQL sees the folders. -#}
{% macro spark__read_under_consent() %}{% endmacro %}

{#- SQL in which one number divided by another is double precision. Of decimals, the quotient of a sum of money has three decimals,
    or as many as fit beside the digits of the sum, and what is rounded twice may come out otherwise. -#}
{% macro divided_as_double(sql) -%}
    {%- for part in modules.re.split("('(?:[^'\\\\]|\\\\.)*'|--[^\n]*)", sql) -%}
        {#- Every other part is a text or a comment. -#}
        {{- part if loop.index0 is odd else modules.re.sub("\\s/\\s", " * 1D / ", part) -}}
    {%- endfor -%}
{%- endmacro %}

{#- A model's table. PostgreSQL has the comments. -#}
{% macro spark__create_table_as(temporary, relation, compiled_code, language='sql') -%}
    {%- set compiled_code = divided_as_double(compiled_code) -%}
    {%- if config.get('contract').enforced -%}
        {{ get_assert_columns_equivalent(compiled_code) }}
        {%- set compiled_code = get_select_subquery(compiled_code) -%}
    {%- endif -%}
    create table {{ relation }} using parquet as
    {{ compiled_code }}
{%- endmacro %}

{% macro spark__create_view_as(relation, sql) -%}
    create or replace view {{ relation }} as
    {{ divided_as_double(sql) }}
{%- endmacro %}

{% macro spark__persist_docs(relation, model, for_relation, for_columns) %}{% endmacro %}

{#- A column of Parquet may be empty. PostgreSQL refuses the mart. -#}
{% macro spark__persist_constraints(relation, model) %}{% endmacro %}

{#- A type by the name that Spark has for it. -#}
{% macro spark_type(name) -%}
    {{ return({'text': 'string', 'timestamptz': 'timestamp', 'timestamp with time zone': 'timestamp', 'double precision': 'double'}.get(name, name)) }}
{%- endmacro %}

{#- Spark's float has half the bits of others'. -#}
{% macro spark__type_float() -%}
    double
{%- endmacro %}

{#- Contracts name types of PostgreSQL. -#}
{% macro spark__get_empty_schema_sql(columns) -%}
    select
    {%- for column in columns.values() %}
        cast(null as {{ spark_type(column.data_type) }}) as {{ column.name }}{{ ',' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{#- A seed in one statement. dbt-spark would write a row's values as text, in which empty and none are the same. -#}
{% macro spark__create_csv_table(model, agate_table) -%}
    {%- set types = model.config.column_types -%}
    {%- set sql -%}
        create table {{ this.render() }} using parquet as
        select
        {%- for name in agate_table.column_names %}
            cast({{ name }} as {{ spark_type(types.get(name, adapter.convert_type(agate_table, loop.index0))) }}) as {{ name }}
            {{- ',' if not loop.last }}
        {%- endfor %}
        from values
        {%- for row in agate_table.rows %}
            (
            {%- for value in row -%}
                {{ "'" ~ dbt.escape_single_quotes((value | string) | replace('\\', '\\\\')) ~ "'" if value is not none else 'null' }}
                {{- ', ' if not loop.last }}
            {%- endfor -%}
            ){{ ',' if not loop.last }}
        {%- endfor %}
        as seed ({{ agate_table.column_names | join(', ') }})
    {%- endset -%}
    {%- call statement('_') -%}
        {{ sql }}
    {%- endcall -%}
    {{ return(sql) }}
{%- endmacro %}

{% macro spark__load_csv_rows(model, agate_table) -%}
    {{ return('') }}
{%- endmacro %}

{#- The session's time zone is Hong Kong's. -#}
{% macro spark__hong_kong_date(column) -%}
    cast({{ column }} as date)
{%- endmacro %}

{#- Dates stay dates, and empty stays empty: dbt-spark goes by way of times, and fails. -#}
{% macro spark__dateadd(datepart, interval, from_date_or_timestamp) -%}
    {%- if datepart == 'day' -%}
        date_add(cast({{ from_date_or_timestamp }} as date), cast({{ interval }} as int))
    {%- else -%}
        add_months(cast({{ from_date_or_timestamp }} as date), {{ {'month': 1, 'year': 12}[datepart] }} * cast({{ interval }} as int))
    {%- endif -%}
{%- endmacro %}

{% macro spark__datediff(first_date, second_date, datepart) -%}
    {%- if datepart == 'day' -%}
        datediff({{ second_date }}, {{ first_date }})
    {%- else -%}
        (12 * (year({{ second_date }}) - year({{ first_date }})) + month({{ second_date }}) - month({{ first_date }}))
    {%- endif -%}
{%- endmacro %}

{% macro spark__date_trunc(datepart, date) -%}
    trunc({{ date }}, '{{ datepart }}')
{%- endmacro %}

{% macro spark__days_between(first_day, last_day) -%}
    select explode(sequence(cast({{ first_day }} as date), cast({{ last_day }} as date))) as day
{%- endmacro %}

{% macro spark__each_of(list) -%}
    explode(split({{ list }}, ';'))
{%- endmacro %}

{% macro spark__iso_weekday(column) -%}
    extract(dayofweek_iso from {{ column }})
{%- endmacro %}

{#- A list in order: sorted with the text, by what it is sorted by. -#}
{% macro spark__listagg(measure, delimiter_text, order_by_clause, limit_num) -%}
    nullif(
        array_join(
            transform(
                array_sort(collect_list(case when {{ measure }} is not null then struct({{ order_by_clause | replace('order by ', '') }} as at, {{ measure }} as text) end)),
                listed -> listed.text
            ),
            {{ delimiter_text }}
        ),
        ''
    )
{%- endmacro %}

{#- JSON is text. -#}
{% macro spark__json_text(column, key) -%}
    get_json_object({{ column }}, '$.{{ key }}')
{%- endmacro %}

{% macro spark__json_number(column, key) -%}
    case
        when get_json_object({{ column }}, '$.{{ key }}') rlike '^-?[0-9]{1,18}([.][0-9]{1,6})?$'
            then cast(get_json_object({{ column }}, '$.{{ key }}') as numeric(28, 6))
    end
{%- endmacro %}
