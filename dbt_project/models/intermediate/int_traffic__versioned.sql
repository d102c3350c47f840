-- One row per platform, shop, day and batch: every version of the traffic, the current one marked.
{{
    config(
        unique_key=['platform', 'store_id', 'stat_date'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['platform', 'store_id', 'stat_date']}]
    )
}}

{{
    versions('platform_traffic', ref('stg_platforms__platform_traffic'), [
        'visit_count', 'visitor_count', 'new_visitor_count', 'live_session_count', 'live_minutes',
        'live_viewer_count', 'live_payment_cny'
    ])
}}
