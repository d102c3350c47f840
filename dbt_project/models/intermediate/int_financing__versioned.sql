-- One row per financing request, status taken and batch: every version of the history, the current one marked.
{{
    config(
        unique_key=['request_no', 'status_at'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['request_no', 'status_at']}]
    )
}}

{{
    versions('cdi_financing_requests', ref('stg_cdi__financing_requests'), [
        'status', 'brn', 'bank_id', 'consent_id', 'product', 'data_used', 'amount_requested_hkd',
        'amount_approved_hkd'
    ])
}}
