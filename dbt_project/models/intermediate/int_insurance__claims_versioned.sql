-- One row per claim, status taken and batch: every version of the history, the current one marked.
{{ config(materialized='versioned', leaves_out=['policyholder_name_zh', 'cause_text_zh', 'remarks_zh']) }}

select
    claim_no,
    status,
    status_on,
    lodged_on,
    policy_no,
    shipment_no,
    cause,
    amount_claimed_hkd,
    amount_paid_hkd,
    amount_recovered_hkd,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_hkecic__claims') }}
