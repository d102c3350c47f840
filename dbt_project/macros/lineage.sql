{#- One row per mart and feed that it is made from, as the graph of the models has it, and whether its figures are made of the
    feed, or only the names in it. The linkage reads names outside the graph: what rests on its links rests on the feeds that
    name somebody. A mart's figures are made of the feeds that it names in release_columns, else of those that the marts below
    it name, else of all. -#}
{% macro marts_and_feeds() -%}
    {%- set found = [] -%}
    {%- if execute -%}
        {%- set naming = [] -%}
        {%- for node in graph.nodes.values() if node.name == 'stg_ops__identity_names' -%}
            {%- do naming.append(node.unique_id) -%}
        {%- endfor -%}
        {%- for mart in graph.nodes.values()
            if mart.resource_type == 'model' and mart.config.schema == 'build' and mart.name != model.name -%}
            {%- set named = figures_upstream(mart) -%}
            {#- What Python estimates in the build has no line to its feeds in the graph, but names them. -#}
            {%- set feeds = (feeds_upstream(mart, naming) + named) | unique | list -%}
            {%- set figures = named or feeds -%}
            {%- for feed in feeds -%}
                {%- do found.append((mart.name, feed, feed in figures)) -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {%- set type = dbt.type_string() %}
    select cast(mart as {{ type }}) as mart, cast(feed as {{ type }}) as feed, is_figure
    from (
        values
        {%- for mart, feed, is_figure in found | sort %}
        ('{{ mart }}', '{{ feed }}', {{ is_figure | lower }}){{ ',' if not loop.last }}
        {%- else %}
        (cast(null as {{ type }}), cast(null as {{ type }}), true)
        {%- endfor %}
    ) as listed (mart, feed, is_figure)
{%- endmacro %}

{#- The feeds that a node of the graph is made from. -#}
{% macro feeds_upstream(mart, naming) -%}
    {%- set feeds, seen, waiting = [], {}, mart.depends_on.nodes | list -%}
    {#- A loop that grows as it goes: a graph has fewer nodes than this. -#}
    {%- for _ in range(10000) if waiting -%}
        {%- set node_id = waiting.pop() -%}
        {%- if node_id not in seen -%}
            {%- do seen.update({node_id: true}) -%}
            {%- if node_id in graph.nodes -%}
                {%- do waiting.extend(graph.nodes[node_id].depends_on.nodes | list) -%}
            {%- elif graph.sources[node_id].source_name == 'raw' -%}
                {%- do feeds.append(graph.sources[node_id].name) -%}
            {%- elif graph.sources[node_id].name == 'identity_link_known' -%}
                {%- do waiting.extend(naming) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(feeds | unique | list) }}
{%- endmacro %}

{#- The feeds that a mart, or the nearest models below it, name in release_columns. -#}
{% macro figures_upstream(mart) -%}
    {%- set feeds, seen, waiting = [], {}, [mart.unique_id] -%}
    {%- for _ in range(10000) if waiting -%}
        {%- set node_id = waiting.pop() -%}
        {%- if node_id not in seen and node_id in graph.nodes -%}
            {%- do seen.update({node_id: true}) -%}
            {%- set node = graph.nodes[node_id] -%}
            {%- if node.config.meta.figures_from -%}
                {%- do feeds.extend(node.config.meta.figures_from) -%}
            {%- elif node.resource_type == 'model' -%}
                {%- do waiting.extend(node.depends_on.nodes | list) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(feeds | unique | list) }}
{%- endmacro %}

{#- The rows of a table of `ops` that belong to the open build. -#}
{% macro of_open_build(table) -%}
with estimates as (
    select * from {{ source('ops', table) }}
),

open_build as (
    select * from {{ source('ops', 'open_build') }}
),

final as (
    select estimates.*
    from estimates
    inner join open_build on estimates.build_no = open_build.build_no
)

select * from final
{%- endmacro %}
