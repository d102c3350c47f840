{#- What the contract of a feed says about keys and corrections, from the generated sources. -#}
{% macro feed_meta(feed) -%}
    {%- if execute -%}
        {%- for node in graph.sources.values() if node.source_name == 'raw' and node.name == feed -%}
            {{ return(node.config.meta) }}
        {%- endfor -%}
        {{ exceptions.raise_compiler_error("no feed '" ~ feed ~ "' in the generated sources") }}
    {%- endif -%}
    {{ return({'key': ['key'], 'corrections': 'append', 'version_column': none}) }}
{%- endmacro %}

{#- A predicate: the row's batch is one that this run of the model has to read. Incremental runs read the batches of
    the build under way, a first run or a full refresh all that builds took in. The numbers are written out, so that the
    planner opens no other partition. -#}
{% macro in_build(feed, column='batch_id') -%}
    {%- set to_build, built = source('ops', 'batches_to_build'), source('ops', 'batches_built') -%}
    {%- if execute and flags.WHICH not in ('compile', 'docs', 'list') -%}
        {%- set query -%}
            select batch_id from {{ to_build if is_incremental() else built }} where feed = '{{ feed }}' order by batch_id
        {%- endset -%}
        {%- set batches = run_query(query).columns[0].values() -%}
        {%- if batches | length > 0 -%}
            {{ column }} in ({{ batches | join(', ') }})
        {%- else -%}
            1 = 0
        {%- endif -%}
    {%- else -%}
        {{ column }} in (select batch_id from {{ built }} where feed = '{{ feed }}')
    {%- endif -%}
{%- endmacro %}

{#- Every version of the rows of a feed, with the one that is current marked, by the contract's correction policy:

    append          the newest delivery of a key is current
    versioned       of a document (the key columns before the version column) only the highest version is current;
                    within it the newest delivery of each row
    replace_period  as append, but only the newest delivery of a business date counts, and replays made after it

    A run takes in the rows of its batches and ranks anew every document that they touch, together with the versions
    already held, so the order and the number of runs do not matter. `build_no` is the build that last touched a row.
    `renamed` gives the staged names of key columns that staging calls otherwise; with `by_date` the business date is part
    of the key, for feeds whose deliveries do not say which period they cover. -#}
{% macro versions(feed, staged, columns, renamed={}, by_date=false) -%}
    {%- set to_build, batches = source('ops', 'batches_to_build'), ref('stg_ops__batches') -%}
    {%- set meta = feed_meta(feed) -%}
    {%- set key = ['business_date'] if by_date else [] -%}
    {%- for column in meta.key -%}
        {%- do key.append(renamed.get(column, column)) -%}
    {%- endfor -%}
    {%- set version = meta.version_column -%}
    {%- set document = key[:key.index(version)] if version else key -%}
    {%- set row_key = key | reject('equalto', version) | list -%}
    {%- set carried = (key + columns + ['batch_id', 'business_date', 'received_at']) | unique | list -%}

with new_rows as (
    select {{ carried | join(', ') }}
    from {{ staged }}
    where {{ in_build(feed) }}
),

{% if is_incremental() -%}
touched as (
    select {{ document | join(', ') }} from new_rows
    {%- if meta.corrections == 'replace_period' %}
    union distinct
    select {{ document | join(', ') }}
    from {{ this }}
    where business_date in (select business_date from {{ to_build }} where feed = '{{ feed }}')
    {%- else %}
    group by {{ document | join(', ') }}
    {%- endif %}
),

earlier_rows as (
    select {% for column in carried %}earlier.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
    from {{ this }} as earlier
    inner join touched
        on {% for column in document %}earlier.{{ column }} = touched.{{ column }}{{ ' and ' if not loop.last }}{% endfor %}
    where not ({{ in_build(feed, 'earlier.batch_id') }})
),
{%- endif %}

all_rows as (
    select * from new_rows
    {%- if is_incremental() %}
    union all
    select * from earlier_rows
    {%- endif %}
),

candidates as (
    select
        all_rows.*,
        {% if meta.corrections == 'replace_period' -%}
        batches.is_superseded
        {%- else -%}
        false as is_superseded
        {%- endif %}
    from all_rows
    {%- if meta.corrections == 'replace_period' %}
    inner join {{ batches }} as batches on all_rows.batch_id = batches.batch_id
    {%- endif %}
),

-- Few documents come more than once: only these are ranked.
contested as (
    select {{ document | join(', ') }}
    from candidates
    group by {{ document | join(', ') }}
    having min(batch_id) < max(batch_id)
        or max(case when is_superseded then 1 else 0 end) = 1
        {%- if version %}
        or min({{ version }}) < max({{ version }})
        {%- endif %}
),

ranked as (
    select
        candidates.*,
        {% if version -%}
        max(candidates.{{ version }}) over (
            partition by {% for column in document %}candidates.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
        ) as newest_version,
        {% endif -%}
        row_number() over (
            partition by {% for column in row_key %}candidates.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
            order by
                case when candidates.is_superseded then 1 else 0 end,
                {% if version %}candidates.{{ version }} desc,{% endif %}
                candidates.business_date desc, candidates.received_at desc, candidates.batch_id desc
        ) as recency
    from candidates
    inner join contested
        on {% for column in document %}candidates.{{ column }} = contested.{{ column }}{{ ' and ' if not loop.last }}{% endfor %}
),

settled as (
    select
        {% for column in carried %}candidates.{{ column }}, {% endfor %}
        true as is_current
    from candidates
    where not exists (
        select 1 from contested
        where {% for column in document %}candidates.{{ column }} = contested.{{ column }}{{ ' and ' if not loop.last }}{% endfor %}
    )
    union all
    select
        {{ carried | join(', ') }},
        recency = 1 and not is_superseded{% if version %} and {{ version }} = newest_version{% endif %} as is_current
    from ranked
)

select settled.*, open_build.build_no
from settled
cross join {{ ref('stg_ops__open_build') }} as open_build
{%- endmacro %}
