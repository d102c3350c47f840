-- One row per scheme, certificate and change of its status, of each batch.
with deliveries as (
    select * from {{ source('raw', 'quality_marks') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.scheme,
        deliveries.certificate_no,
        deliveries.status_at,
        deliveries.status,
        deliveries.issuer,
        deliveries.scope,
        deliveries.holder_name,
        deliveries.subject,
        deliveries.platform,
        deliveries.store_id,
        deliveries.holder_brn,
        deliveries.valid_from,
        deliveries.valid_to,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
