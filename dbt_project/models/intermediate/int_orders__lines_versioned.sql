-- One row per platform, order line, modification and batch: every version of the order lines, the current one marked.
{{
    config(
        materialized='versioned',
        indexes=[
            {'columns': ['oid', 'platform']},
            {'columns': ['created_at'], 'type': 'brin'},
            {'columns': ['build_no'], 'type': 'brin'}
        ],
        leaves_out=['shop_name', 'title', 'sku_id']
    )
}}

select
    platform,
    oid,
    modified_at,
    tid,
    store_id,
    status,
    refund_status,
    created_at,
    paid_at,
    category,
    customs_regime,
    item_count,
    total_fee_cny,
    payment_cny,
    refund_fee_cny,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_platforms__platform_orders') }}
