-- One row per platform, shop and day of each batch.
with deliveries as (
    select * from {{ source('raw', 'platform_traffic') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.stat_date,
        deliveries.platform,
        deliveries.store_id,
        deliveries.visits as visit_count,
        deliveries.visitors as visitor_count,
        deliveries.new_visitors as new_visitor_count,
        deliveries.live_sessions as live_session_count,
        deliveries.live_minutes,
        deliveries.live_viewers as live_viewer_count,
        round(deliveries.live_payment_cny, 2) as live_payment_cny,
        deliveries.shop_name,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
