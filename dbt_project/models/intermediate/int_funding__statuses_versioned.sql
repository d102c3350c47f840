-- One row per application, status taken and batch: every version of the history, the current one marked.
{{ config(materialized='versioned', leaves_out=['applicant_name']) }}

select
    application_no,
    status_at,
    status,
    programme,
    received_on,
    brn,
    market_code,
    purpose,
    platform,
    amount_applied_hkd,
    amount_approved_hkd,
    project_start_on,
    project_end_on,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_tid__funding_applications') }}
