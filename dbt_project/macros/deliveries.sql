{#- The rows of a feed with the business date and the time of receipt of the batch that brought each. -#}
{% macro deliveries(feed) -%}
    select delivered.*, batches.business_date, batches.received_at
    from {{ source('raw', feed) }} as delivered
    inner join {{ ref('stg_ops__batches') }} as batches on delivered._batch_id = batches.batch_id
{%- endmacro %}

{#- The columns that say where a staged row comes from. -#}
{% macro lineage(relation='deliveries') -%}
    {{ relation }}._batch_id as batch_id,
    {{ relation }}._line as line,
    {{ relation }}.business_date,
    {{ relation }}.received_at
{%- endmacro %}
