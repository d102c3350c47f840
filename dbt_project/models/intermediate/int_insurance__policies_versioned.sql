-- One row per policy and batch: every version of the policies, the current one marked.
{{
    config(
        unique_key=['policy_no'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['policy_no']}]
    )
}}

{{
    versions('hkecic_policies', ref('stg_hkecic__policies'), [
        'brn', 'policy_type', 'status', 'issued_on', 'cover_start_on', 'cover_end_on', 'indemnity_pct',
        'max_liability_hkd', 'premium_rate_pct'
    ])
}}
