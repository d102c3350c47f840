-- One row per application, status taken and batch: every version of the history, the current one marked.
{{
    config(
        unique_key=['application_no', 'status_at'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['application_no', 'status_at']}]
    )
}}

{{
    versions('funding_applications', ref('stg_tid__funding_applications'), [
        'status', 'programme', 'received_on', 'brn', 'market_code', 'purpose', 'platform', 'amount_applied_hkd',
        'amount_approved_hkd', 'project_start_on', 'project_end_on'
    ])
}}
