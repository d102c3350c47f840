-- One row per data set of each batch.
with deliveries as (
    select * from {{ source('raw', 'datagovhk_catalogue') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.name as dataset_name,
        deliveries.title,
        deliveries.publisher,
        deliveries.update_frequency,
        deliveries.metadata_modified,
        deliveries.resource_count,
        deliveries.formats,
        deliveries.first_url,
        deliveries.first_created,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
