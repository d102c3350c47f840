-- One row per event, participant and batch: every version of the participants of trade missions, the current one marked.
{{ config(materialized='versioned', leaves_out=['brn']) }}

select
    event_id,
    participant_no,
    event_name,
    market_code,
    starts_on,
    ends_on,
    enterprise_name,
    status,
    meetings,
    expected_orders_hkd,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_hktdc__trade_missions') }}
