-- One row per policy, declared shipment and batch: every version of the shipments, the current one marked.
{{
    config(
        unique_key=['policy_no', 'shipment_no'],
        incremental_strategy='delete+insert',
        indexes=[
            {'columns': ['policy_no', 'shipment_no']},
            {'columns': ['shipped_on'], 'type': 'brin'},
            {'columns': ['build_no'], 'type': 'brin'}
        ]
    )
}}

{{
    versions('hkecic_shipments', ref('stg_hkecic__shipments'), [
        'declared_on', 'shipped_on', 'buyer_country_code', 'hs_code', 'payment_term', 'due_on', 'invoice_value_hkd',
        'is_ecommerce', 'overdue_reported_on'
    ])
}}
