-- One row per payment and batch: every version of the payments, the current one marked.
{{ config(materialized='versioned') }}

select
    payment_no,
    application_no,
    programme,
    brn,
    instalment,
    amount_hkd,
    paid_on,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_tid__funding_payments') }}
