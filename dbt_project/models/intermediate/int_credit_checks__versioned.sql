-- One row per check and batch: every version of the checks, the current one marked.
{{
    config(
        unique_key=['check_no'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['check_no']}]
    )
}}

{{
    versions('credit_reference_checks', ref('stg_cdi__credit_reference_checks'), [
        'checked_at', 'direction', 'bank_id', 'agency', 'brn', 'consent_id', 'result'
    ])
}}
