-- One row per consent and change of its status, of each batch.
with deliveries as (
    select * from {{ source('raw', 'cdi_consents') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.consent_id,
        deliveries.status_at,
        deliveries.status,
        deliveries.brn,
        deliveries.bank_id,
        deliveries.provider,
        deliveries.scopes,
        deliveries.purpose,
        deliveries.valid_from,
        deliveries.valid_to,
        deliveries.channel,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
