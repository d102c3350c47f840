-- One row per platform, shop and day, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('platform_traffic') }})

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
    deliveries.live_payment_cny,
    deliveries.shop_name,
    {{ lineage() }}
from deliveries
