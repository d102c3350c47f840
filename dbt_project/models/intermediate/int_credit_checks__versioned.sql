-- One row per check and batch: every version of the checks, the current one marked.
{{ config(materialized='versioned', leaves_out=['report_hash', 'issued_hash', 'validation_platform']) }}

select
    check_no,
    checked_at,
    direction,
    bank_id,
    agency,
    brn,
    consent_id,
    result,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_cdi__credit_reference_checks') }}
