-- One row per policy and batch: every version of the policies, the current one marked.
{{ config(materialized='versioned', leaves_out=['policyholder_name']) }}

select
    policy_no,
    brn,
    policy_type,
    status,
    issued_on,
    cover_start_on,
    cover_end_on,
    indemnity_pct,
    max_liability_hkd,
    premium_rate_pct,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_hkecic__policies') }}
