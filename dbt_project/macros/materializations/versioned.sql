{#- Materialization of a feed's rows in every version, with the current one marked. The model selects the columns to keep from
    the feed's staging model; its key and how it is corrected come from the contract, by way of the sources' meta:

    append          the newest delivery of a key is current
    versioned       of a document (the key columns before the version column) only the highest version is current;
                    within it the newest delivery of each row
    replace_period  as append, but only the newest delivery of a business date counts, and replays made after it

    A run takes in the rows of its batches and ranks every document that they change again, together with the versions
    already stored, so the order and the number of runs do not matter. The table has two more columns: `is_current`, and
    `build_no`, the build that last changed a row. Configuration:

    leaves_out      columns of the staging model that are not kept; one that is neither selected nor named here is an error
    renamed         key columns that staging calls otherwise: {name in the contract: name in staging}
    by_date         the business date is part of the key: for feeds whose rows do not say which period they cover
    indexes         instead of the one on the document -#}
{% materialization versioned, default -%}
    {%- set existing, target = load_cached_relation(this), this.incorporate(type='table') -%}
    {%- set merges = existing is not none and existing.is_table and not should_full_refresh() -%}
    {%- set swaps = existing is not none and not merges -%}
    {%- set written = make_intermediate_relation(target) if swaps else target -%}
    {%- set backup = make_backup_relation(target, existing.type if existing else 'table') -%}
    {%- for left_over in [make_intermediate_relation(target), backup] -%}
        {{ drop_relation_if_exists(load_cached_relation(left_over)) }}
    {%- endfor -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- set feed = versioned_feed() -%}
    {%- set selected = get_columns_in_query(sql) -%}
    {%- do assert_no_column_forgotten(feed.staging, selected) -%}
    {%- set rows = versions(feed, selected, existing if merges else none) -%}
    {%- if merges -%}
        {%- set new = make_temp_relation(target) -%}
        {%- do run_query(get_create_table_as_sql(True, new, rows)) -%}
        {%- do process_schema_changes('fail', new, existing) -%}
        {%- set main = get_delete_insert_merge_sql(
            target, new, feed.document, adapter.get_columns_in_relation(existing), none
        ) -%}
    {%- else -%}
        {%- set main = get_create_table_as_sql(False, written, rows) -%}
    {%- endif -%}
    {%- call statement('main') -%}
        {{ main }}
    {%- endcall -%}
    {%- if not merges -%}
        {%- for index in config.get('indexes') or [{'columns': feed.document}] -%}
            {%- set create_index = get_create_index_sql(written, index) | trim -%}
            {%- if create_index -%}
                {%- do run_query(create_index) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {%- if swaps -%}
        {%- do adapter.rename_relation(target, backup) -%}
        {%- do adapter.rename_relation(written, target) -%}
    {%- endif -%}

    {%- do persist_docs(target, model) -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do adapter.commit() -%}
    {%- if swaps -%}
        {%- do adapter.drop_relation(backup) -%}
    {%- endif -%}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target]}) }}
{%- endmaterialization %}

{#- The feed whose staging model this model selects from, and what its contract says, in the names of staging: feed, staging,
    document, row_key, version, corrections. -#}
{% macro versioned_feed() -%}
    {%- set staging = graph.nodes[model.depends_on.nodes | select('in', graph.nodes) | first] -%}
    {%- for id in staging.depends_on.nodes if id in graph.sources and graph.sources[id].source_name == 'raw' -%}
        {%- set meta = graph.sources[id].config.meta -%}
        {%- set renamed, key = config.get('renamed') or {}, ['business_date'] if config.get('by_date') else [] -%}
        {%- for column in meta.key -%}
            {%- do key.append(renamed.get(column, column)) -%}
        {%- endfor -%}
        {%- set version = meta.version_column -%}
        {{ return({
            'feed': graph.sources[id].name,
            'staging': staging,
            'document': key[:key.index(version)] if version else key,
            'row_key': key | reject('equalto', version) | list,
            'version': version,
            'corrections': meta.corrections,
        }) }}
    {%- endfor -%}
    {{ exceptions.raise_compiler_error(model.name ~ " does not select from the staging model of a feed") }}
{%- endmacro %}

{#- Stops the build when a column of the staging model is neither selected nor left out on purpose. -#}
{% macro assert_no_column_forgotten(staging, selected) -%}
    {%- set relation = api.Relation.create(staging.database, staging.schema, staging.alias) -%}
    {%- set staged = adapter.get_columns_in_relation(relation) | map(attribute='name') | list -%}
    {%- set left_out = config.get('leaves_out') or [] -%}
    {%- set forgotten = staged | reject('in', selected + left_out + ['line']) | list -%}
    {%- set wrong = left_out | select('in', selected) | list + left_out | reject('in', staged) | list -%}
    {%- if forgotten -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ " forgets columns of " ~ staging.name ~ ": " ~ forgotten | join(', ')
            ~ "; select them or name them in leaves_out"
        ) }}
    {%- elif wrong -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ " names columns in leaves_out that " ~ staging.name ~ " lacks or that are selected: " ~ wrong | join(', ')
        ) }}
    {%- endif -%}
{%- endmacro %}
