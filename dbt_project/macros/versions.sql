{#- The rows of this run and of the documents that they change, each with is_current and build_no. `existing` is the table to
    merge into; none on a first run or a full refresh. -#}
{% macro versions(feed, selected, existing=none) -%}
    {%- set document, version = feed.document, feed.version -%}
    {%- set replaces_period = feed.corrections == 'replace_period' -%}

with new_rows as (
    select {{ selected | join(', ') }}
    from ({{ sql }}) as selected
    where {{ in_build(feed.feed, merges=existing is not none) }}
),

{% if existing -%}
changed as (
    select {{ document | join(', ') }} from new_rows
    {%- if replaces_period %}
    union distinct
    select {{ document | join(', ') }}
    from {{ existing }}
    where business_date in (select business_date from {{ source('ops', 'batches_to_build') }} where feed = '{{ feed.feed }}')
    {%- else %}
    group by {{ document | join(', ') }}
    {%- endif %}
),

earlier_rows as (
    select {{ columns_of('earlier', selected) }}
    from {{ existing }} as earlier
    inner join changed on {{ equal('earlier', 'changed', document) }}
    where not ({{ in_build(feed.feed, 'earlier.batch_id', merges=true) }})
),
{%- endif %}

all_rows as (
    select * from new_rows
    {%- if existing %}
    union all
    select * from earlier_rows
    {%- endif %}
),

candidates as (
    select
        all_rows.*,
        {{ is_superseded(feed.feed, 'all_rows.batch_id') if replaces_period else 'false' }} as is_superseded
    from all_rows
),

-- Few documents come more than once: only these are ranked.
contested as (
    select {{ document | join(', ') }}
    from candidates
    group by {{ document | join(', ') }}
    having min(batch_id) < max(batch_id)
        or {{ any_true('is_superseded') }}
        {%- if version %}
        or min({{ version }}) < max({{ version }})
        {%- endif %}
),

ranked as (
    select
        candidates.*,
        {% if version -%}
        max(candidates.{{ version }}) over (partition by {{ columns_of('candidates', document) }}) as newest_version,
        {% endif -%}
        row_number() over (
            partition by {{ columns_of('candidates', feed.row_key) }}
            order by
                case when candidates.is_superseded then 1 else 0 end,
                {% if version %}candidates.{{ version }} desc,{% endif %}
                candidates.business_date desc, candidates.received_at desc, candidates.batch_id desc
        ) as recency
    from candidates
    inner join contested on {{ equal('candidates', 'contested', document) }}
),

settled as (
    select
        {{ columns_of('candidates', selected) }},
        true as is_current
    from candidates
    where not exists (select 1 from contested where {{ equal('candidates', 'contested', document) }})
    union all
    select
        {{ selected | join(', ') }},
        recency = 1 and not is_superseded{% if version %} and {{ version }} = newest_version{% endif %} as is_current
    from ranked
)

select settled.*, open_build.build_no
from settled
cross join {{ source('ops', 'open_build') }} as open_build
{%- endmacro %}

{#- Whether a later delivery took the place of a batch. The batches are named: of a join with what says so PostgreSQL expects one
    row, and it then compares each row of a delivery with all of them. -#}
{% macro is_superseded(feed, column) -%}
    {%- set batches = run_query(
        "select batch_id from " ~ graph.nodes['model.sampan.stg_ops__batches'].relation_name
        ~ " where feed = '" ~ feed ~ "' and is_superseded order by batch_id"
    ).columns[0].values() -%}
    {%- if batches | length > 0 -%}
        {{ column }} in ({{ batches | join(', ') }})
    {%- else -%}
        false
    {%- endif -%}
{%- endmacro %}

{% macro columns_of(alias, columns) -%}
    {% for column in columns %}{{ alias }}.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
{%- endmacro %}

{% macro equal(left, right, columns) -%}
    {% for column in columns %}{{ left }}.{{ column }} = {{ right }}.{{ column }}{{ ' and ' if not loop.last }}{% endfor %}
{%- endmacro %}
