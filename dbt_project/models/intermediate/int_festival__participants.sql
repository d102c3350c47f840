-- One row per event, platform and shop that takes part and did not withdraw; of two merchants with one shop the one that joined
-- last. A merchant is new at its first event, by its number at HKTDC.
{{ config(materialized='view') }}

with participants as (
    select * from {{ ref('int_festival__participants_versioned') }} where is_current and status = 'joined'
),

events as (
    select * from {{ ref('festival_events') }}
),

joined as (
    select
        participants.event_id,
        participants.merchant_no,
        participants.platform,
        participants.store_id,
        participants.brn,
        events.first_day,
        events.last_day,
        events.first_day = min(events.first_day) over (partition by participants.merchant_no) as is_new_merchant,
        row_number() over (
            partition by participants.event_id, participants.platform, participants.store_id
            order by participants.joined_on desc, participants.merchant_no desc
        ) as recency
    from participants
    inner join events on participants.event_id = events.event_id
),

final as (
    select
        event_id,
        merchant_no,
        platform,
        store_id,
        brn,
        first_day,
        last_day,
        is_new_merchant
    from joined
    where recency = 1
)

select * from final
