{#- One row per mart and feed that it is made from, as the graph of the models has it. The linkage reads names outside the
    graph: what rests on its links rests on the feeds that name somebody. -#}
{% macro marts_and_feeds() -%}
    {%- set found = [] -%}
    {%- if execute -%}
        {%- set naming = [] -%}
        {%- for node in graph.nodes.values() if node.name == 'stg_ops__identity_names' -%}
            {%- do naming.append(node.unique_id) -%}
        {%- endfor -%}
        {%- for mart in graph.nodes.values()
            if mart.resource_type == 'model' and mart.config.schema == 'build' and mart.name != model.name -%}
            {%- set seen, waiting = {}, mart.depends_on.nodes | list -%}
            {#- A loop that grows as it goes: a graph has fewer nodes than this. -#}
            {%- for _ in range(10000) if waiting -%}
                {%- set node_id = waiting.pop() -%}
                {%- if node_id not in seen -%}
                    {%- do seen.update({node_id: true}) -%}
                    {%- if node_id in graph.nodes -%}
                        {%- do waiting.extend(graph.nodes[node_id].depends_on.nodes | list) -%}
                    {%- elif graph.sources[node_id].source_name == 'raw' -%}
                        {%- do found.append((mart.name, graph.sources[node_id].name)) -%}
                    {%- elif graph.sources[node_id].name == 'identity_link_known' -%}
                        {%- do waiting.extend(naming) -%}
                    {%- endif -%}
                {%- endif -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {%- for mart, feed in found | sort %}
    select cast('{{ mart }}' as text) as mart, cast('{{ feed }}' as text) as feed
    {{ 'union all' if not loop.last }}
    {%- else %}
    select cast(null as text) as mart, cast(null as text) as feed
    {%- endfor %}
{%- endmacro %}
