-- One row per event, merchant and platform that takes part and did not withdraw. A merchant is new at its first event, by
-- its number at HKTDC.
{{ config(materialized='view') }}

with participants as (
    select * from {{ ref('int_festival__participants_versioned') }} where is_current and status = 'joined'
),

events as (
    select * from {{ ref('festival_events') }}
),

final as (
    select
        participants.event_id,
        participants.merchant_no,
        participants.platform,
        participants.store_id,
        participants.brn,
        events.first_day,
        events.last_day,
        events.first_day = min(events.first_day) over (partition by participants.merchant_no) as is_new_merchant
    from participants
    inner join events on participants.event_id = events.event_id
)

select * from final
