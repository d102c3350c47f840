{#- Materializations of Spark: a table of Parquet that changed is written again. -#}

{#- Incremental models on Parquet: what is kept and what is new are written beside the table, and then take its place. One that
    was killed in between lacks the table, and makes all of it when it runs again. -#}
{% materialization incremental, adapter='spark' -%}
    {%- set existing, target = load_cached_relation(this), this.incorporate(type='table') -%}
    {{ run_hooks(pre_hooks) }}
    {%- if existing is not none and not should_full_refresh() -%}
        {%- set key = config.get('changed_key') or ([config.get('unique_key')] if config.get('unique_key') is string else config.get('unique_key')) -%}
        {{ rewrite_table(existing, target, sql, ref(config.get('changed')) if config.get('changed') else none, key) }}
    {%- else -%}
        {{ write_table(existing, target, sql) }}
    {%- endif -%}
    {{ run_hooks(post_hooks) }}
    {{ return({'relations': [target]}) }}
{%- endmaterialization %}

{#- A view is Spark's alone: what Python reads (`read_by_python` in a model's meta) or gives PostgreSQL is a table. -#}
{% materialization view, adapter='spark' -%}
    {%- set existing, target = load_cached_relation(this), this.incorporate(type='view') -%}
    {{ run_hooks(pre_hooks) }}
    {%- if config.get('meta').read_by_python or model.schema == 'build' -%}
        {%- set target = this.incorporate(type='table') -%}
        {{ write_table(existing, target, sql) }}
    {%- else -%}
        {%- call statement('main') -%}
            {{ create_view_as(target, sql) }}
        {%- endcall -%}
    {%- endif -%}
    {{ run_hooks(post_hooks) }}
    {{ return({'relations': [target]}) }}
{%- endmaterialization %}

{% materialization versioned, adapter='spark' -%}
    {%- set existing, target = load_cached_relation(this), this.incorporate(type='table') -%}
    {%- set merges = existing is not none and not should_full_refresh() -%}
    {{ run_hooks(pre_hooks) }}
    {%- set feed, selected = versioned_feed(), get_columns_in_query(sql) -%}
    {%- do assert_no_column_forgotten(feed.staging, selected) -%}
    {%- set rows = versions(feed, selected, existing if merges else none) -%}
    {%- if merges -%}
        {{ rewrite_table(existing, target, rows, none, feed.document) }}
    {%- else -%}
        {{ write_table(existing, target, rows) }}
    {%- endif -%}
    {{ run_hooks(post_hooks) }}
    {{ return({'relations': [target]}) }}
{%- endmaterialization %}

{#- Write a table instead of one that may exist. -#}
{% macro write_table(existing, target, rows) -%}
    {{ drop_relation_if_exists(existing) }}
    {%- call statement('main') -%}
        {{ create_table_as(False, target, rows) }}
    {%- endcall -%}
{%- endmacro %}

{#- Write a table again, with new rows instead of those of the keys that the relation `changed` lists, or that the new rows have. -#}
{% macro rewrite_table(existing, target, rows, changed, key) -%}
    {%- set columns = adapter.get_columns_in_relation(existing) | map(attribute='name') | list -%}
    {%- set new = get_columns_in_query(rows) -%}
    {%- if columns | sort != new | sort -%}
        {{ exceptions.raise_compiler_error(
            target ~ " has the columns " ~ columns | join(', ') ~ ", its model " ~ new | join(', ') ~ "; build with --full-refresh"
        ) }}
    {%- endif -%}
    {%- set written = target.incorporate(path={'identifier': target.identifier ~ '__dbt_tmp'}) -%}
    {%- set whole -%}
        with new_rows as (
            {{ rows }}
        )

        select {{ columns_of('kept', columns) }}
        from {{ existing }} as kept
        left anti join {{ changed or 'new_rows' }} as changed on {{ equal('kept', 'changed', key) }}
        union all
        select {{ columns_of('new_rows', columns) }} from new_rows
    {%- endset -%}
    {%- do run_query('drop table if exists ' ~ written) -%}
    {%- do run_query(create_table_as(False, written, whole)) -%}
    {{ write_table(existing, target, 'select * from ' ~ written) }}
    {%- do run_query('drop table ' ~ written) -%}
{%- endmacro %}
