{#- A predicate: the row's batch is one that this run of the model has to read. Incremental runs read the batches of
    the open build, a first run or a full refresh all that builds took in. The numbers are written out, so that the
    planner opens no other partition. -#}
{% macro in_build(feed, column='batch_id', merges=none) -%}
    {%- set to_build, built = source('ops', 'batches_to_build'), source('ops', 'batches_built') -%}
    {%- set incremental = merges if merges is not none else is_incremental() -%}
    {%- if execute and flags.WHICH not in ('compile', 'docs', 'list') -%}
        {%- set batches = run_query(
            "select batch_id from " ~ (to_build if incremental else built) ~ " where feed = '" ~ feed ~ "' order by batch_id"
        ).columns[0].values() -%}
        {%- if batches | length > 0 -%}
            {{ column }} in ({{ batches | join(', ') }})
        {%- else -%}
            1 = 0
        {%- endif -%}
    {%- else -%}
        {{ column }} in (select batch_id from {{ built }} where feed = '{{ feed }}')
    {%- endif -%}
{%- endmacro %}

{#- The keys for which the open build changed a row of a versioned model, one row each. -#}
{% macro changed_in_build(relation, columns) -%}
    select distinct
        {{ columns | join(',\n        ') }}
    from {{ relation }}
    where build_no = (select open_build.build_no from {{ ref('stg_ops__open_build') }} as open_build)
{%- endmacro %}
