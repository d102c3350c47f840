-- One row per event, merchant, platform and batch: every version of the participants, the current one marked.
{{ config(materialized='versioned') }}

select
    event_id,
    merchant_no,
    platform,
    store_id,
    shop_name,
    merchant_name,
    brn,
    operator_uscc,
    categories,
    mark_codes,
    joined_on,
    status,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_hktdc__festival_participants') }}
