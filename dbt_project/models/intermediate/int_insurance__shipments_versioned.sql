-- One row per policy, declared shipment and batch: every version of the shipments, the current one marked.
{{
    config(
        materialized='versioned',
        indexes=[
            {'columns': ['policy_no', 'shipment_no']},
            {'columns': ['shipped_on'], 'type': 'brin'},
            {'columns': ['build_no'], 'type': 'brin'}
        ],
        leaves_out=['buyer_no', 'product', 'credit_days']
    )
}}

select
    policy_no,
    shipment_no,
    declared_on,
    shipped_on,
    buyer_country_code,
    hs_code,
    payment_term,
    due_on,
    invoice_value_hkd,
    is_ecommerce,
    overdue_reported_on,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_hkecic__shipments') }}
