-- One row per consent and change of its status and batch: every version of the consents' changes, the current one marked.
{{
    config(
        unique_key=['consent_id', 'status_at'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['consent_id', 'status_at']}]
    )
}}

{{
    versions('cdi_consents', ref('stg_cdi__consents'), [
        'status', 'brn', 'bank_id', 'provider', 'scopes', 'purpose', 'valid_from', 'valid_to'
    ])
}}
