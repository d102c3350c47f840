{#- What differs between engines, each behind adapter.dispatch: here what they share, in `engines/` what one has of its own. -#}

{#- Refuses to write when another builder has claimed the step; see ops.assert_step_claimed. -#}
{% macro assert_step_claimed() -%}
    {{ return(adapter.dispatch('assert_step_claimed', 'sampan')()) }}
{%- endmacro %}
{% macro default__assert_step_claimed() %}{% endmacro %}

{#- Gives the planner the statistics of a table just written, unless they would tell banks of rows they may not see. -#}
{% macro analyze() -%}
    {%- if model.config.materialized in ('table', 'incremental', 'versioned') and not model.config.meta.read_under_consent -%}
        {{ return(adapter.dispatch('analyze', 'sampan')()) }}
    {%- endif -%}
{%- endmacro %}
{% macro default__analyze() %}{% endmacro %}

{#- The date in Hong Kong of a time with zone. -#}
{% macro hong_kong_date(column) -%}
    {{ return(adapter.dispatch('hong_kong_date', 'sampan')(column)) }}
{%- endmacro %}
{% macro default__hong_kong_date(column) -%}
    cast(timezone('Asia/Hong_Kong', {{ column }}) as date)
{%- endmacro %}

{#- The primary key of a mart, put in place when the rows are there: one sorted pass, not a look-up for each row. -#}
{% macro add_primary_key() -%}
    {%- if model.config.meta.primary_key -%}
        {{ return(adapter.dispatch('add_primary_key', 'sampan')(model.config.meta.primary_key)) }}
    {%- endif -%}
{%- endmacro %}
{% macro default__add_primary_key(columns) %}{% endmacro %}

{#- Foreign keys of a mart to the dimensions that its relationships tests name, which builds therefore do not run: the database
    checks them while it puts the keys in place. -#}
{% macro add_foreign_keys() -%}
    {%- if execute and not model.config.meta.read_under_consent -%}
        {%- for test in graph.nodes.values()
            if test.resource_type == 'test' and test.attached_node == model.unique_id
            and test.test_metadata and test.test_metadata.name == 'relationships' -%}
            {%- for dimension in test.depends_on.nodes if dimension != model.unique_id %}
                {{ adapter.dispatch('add_foreign_key', 'sampan')(
                    test.column_name, graph.nodes[dimension].relation_name, test.test_metadata.kwargs.field
                ) }}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}
{% macro default__add_foreign_key(column, dimension, key) %}{% endmacro %}

{#- The median of the values that are there, between the two in the middle when their number is even. -#}
{% macro median(column) -%}
    {{ return(adapter.dispatch('median', 'sampan')(column)) }}
{%- endmacro %}
{% macro default__median(column) -%}
    percentile_cont(0.5) within group (order by {{ column }})
{%- endmacro %}

{#- An aggregate: whether a condition holds for any row. -#}
{% macro any_true(condition) -%}
    {{ return(adapter.dispatch('any_true', 'sampan')(condition)) }}
{%- endmacro %}
{% macro default__any_true(condition) -%}
    coalesce(bool_or({{ condition }}), false)
{%- endmacro %}

{#- A select of the days from one to another, both included: one column, day. -#}
{% macro days_between(first_day, last_day) -%}
    {{ return(adapter.dispatch('days_between', 'sampan')(first_day, last_day)) }}
{%- endmacro %}

{#- The number of a day in its week: 1 is Monday, 7 Sunday. -#}
{% macro iso_weekday(column) -%}
    {{ return(adapter.dispatch('iso_weekday', 'sampan')(column)) }}
{%- endmacro %}
{% macro default__iso_weekday(column) -%}
    extract(isodow from {{ column }})
{%- endmacro %}

{#- In the list of a select: a row for each value of a text, which semicolons separate. -#}
{% macro each_of(list) -%}
    {{ return(adapter.dispatch('each_of', 'sampan')(list)) }}
{%- endmacro %}
{% macro default__each_of(list) -%}
    unnest(string_to_array({{ list }}, ';'))
{%- endmacro %}

{#- A value of a JSON object as text. -#}
{% macro json_text(column, key) -%}
    {{ return(adapter.dispatch('json_text', 'sampan')(column, key)) }}
{%- endmacro %}
{% macro default__json_text(column, key) -%}
    ({{ column }} ->> '{{ key }}')
{%- endmacro %}

{#- A value of a JSON object as a number; empty when it is not one. -#}
{% macro json_number(column, key) -%}
    {{ return(adapter.dispatch('json_number', 'sampan')(column, key)) }}
{%- endmacro %}
