-- One row per enterprise, provider, channel, month and batch: every version of the summaries, the current one marked.
{{ config(materialized='versioned', leaves_out=['provider_name']) }}

select
    brn,
    provider,
    channel,
    month_start,
    consent_id,
    payment_count,
    amount_hkd,
    refund_count,
    refund_hkd,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_cdi__epayment_summaries') }}
