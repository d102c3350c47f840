-- One row per platform, order line, modification and batch: every version of the order lines, the current one marked.
{{
    config(
        unique_key=['platform', 'oid'],
        incremental_strategy='delete+insert',
        indexes=[
            {'columns': ['oid', 'platform']},
            {'columns': ['created_at'], 'type': 'brin'},
            {'columns': ['build_no'], 'type': 'brin'}
        ]
    )
}}

{{
    versions('platform_orders', ref('stg_platforms__platform_orders'), [
        'tid', 'store_id', 'status', 'refund_status', 'created_at', 'paid_at', 'category', 'customs_regime', 'item_count',
        'total_fee_cny', 'payment_cny', 'refund_fee_cny'
    ])
}}
