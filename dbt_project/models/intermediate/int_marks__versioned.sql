-- One row per certificate, change of its status and batch: every version of the history, the current one marked.
{{ config(materialized='versioned', leaves_out=['holder_brn']) }}

select
    scheme,
    certificate_no,
    status_at,
    status,
    issuer,
    scope,
    holder_name,
    subject,
    platform,
    store_id,
    valid_from,
    valid_to,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_marks__quality_marks') }}
