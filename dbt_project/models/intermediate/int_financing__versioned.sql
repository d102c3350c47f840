-- One row per financing request, status taken and batch: every version of the history, the current one marked.
{{ config(materialized='versioned', leaves_out=['branch']) }}

select
    request_no,
    status_at,
    status,
    brn,
    bank_id,
    consent_id,
    product,
    data_used,
    amount_requested_hkd,
    amount_approved_hkd,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_cdi__financing_requests') }}
