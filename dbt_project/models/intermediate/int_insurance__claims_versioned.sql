-- One row per claim, status taken and batch: every version of the history, the current one marked.
{{
    config(
        unique_key=['claim_no', 'status'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['claim_no', 'status']}]
    )
}}

{{
    versions('hkecic_claims', ref('stg_hkecic__claims'), [
        'status_on', 'lodged_on', 'policy_no', 'shipment_no', 'cause', 'amount_claimed_hkd', 'amount_paid_hkd',
        'amount_recovered_hkd'
    ])
}}
