-- One row per consent and change of its status and batch: every version of the consents' changes, the current one marked.
{{ config(materialized='versioned', leaves_out=['channel']) }}

select
    consent_id,
    status_at,
    status,
    brn,
    bank_id,
    provider,
    scopes,
    purpose,
    valid_from,
    valid_to,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_cdi__consents') }}
