-- One row per platform, shop, day and batch: every version of the traffic, the current one marked.
{{ config(materialized='versioned', leaves_out=['shop_name']) }}

select
    platform,
    store_id,
    stat_date,
    visit_count,
    visitor_count,
    new_visitor_count,
    live_session_count,
    live_minutes,
    live_viewer_count,
    live_payment_cny,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_platforms__platform_traffic') }}
