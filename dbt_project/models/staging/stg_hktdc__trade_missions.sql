-- One row per event and enterprise of each batch.
with deliveries as (
    select * from {{ source('raw', 'trade_missions') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.event_id,
        deliveries.participant_no,
        deliveries.event_name,
        deliveries.market as market_code,
        deliveries.starts_on,
        deliveries.ends_on,
        deliveries.brn,
        deliveries.enterprise_name,
        deliveries.status,
        deliveries.meetings,
        round(deliveries.expected_orders_hkd, 2) as expected_orders_hkd,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
