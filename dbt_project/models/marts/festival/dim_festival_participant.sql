-- One row per event, merchant and platform: who took part, with or without sales, and which SME it is where that is known.
-- Marks are what the merchant claims; how many of them their issuers confirm is as of the release day, not of the event.
with participants as (
    select * from {{ ref('int_festival__participants_versioned') }} where is_current
),

events as (
    select * from {{ ref('festival_events') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'shop'
),

marks as (
    select * from {{ ref('int_marks__current') }} where is_valid
),

joined as (
    select * from {{ ref('int_festival__participants') }}
),

open_build as (
    {{ release_columns() }}
),

confirmed as (
    select
        participants.event_id,
        participants.merchant_no,
        participants.platform,
        count(*) as valid_mark_count
    from participants
    inner join marks
        on
            {{ dbt.concat(["';'", "participants.mark_codes", "';'"]) }}
            like {{ dbt.concat(["'%;'", "marks.certificate_no", "';%'"]) }}
    group by participants.event_id, participants.merchant_no, participants.platform
),

final as (
    select
        participants.event_id,
        events.name_en as event_name_en,
        events.name_zh as event_name_zh,
        events.first_day as event_first_day,
        events.last_day as event_last_day,
        participants.merchant_no,
        participants.merchant_name,
        participants.platform,
        participants.store_id,
        participants.shop_name,
        participants.categories,
        participants.mark_codes,
        cast(
            coalesce(length(participants.mark_codes) - length(replace(participants.mark_codes, ';', '')) + 1, 0) as integer
        ) as claimed_mark_count,
        cast(coalesce(confirmed.valid_mark_count, 0) as integer) as valid_claimed_mark_count,
        participants.joined_on,
        participants.status as participant_status,
        joined.is_new_merchant,
        links.sme_id,
        coalesce(links.link_basis, 'none') as link_basis,
        open_build.release_no
    from participants
    cross join open_build
    left join events on participants.event_id = events.event_id
    left join joined
        on
            participants.event_id = joined.event_id
            and participants.merchant_no = joined.merchant_no
            and participants.platform = joined.platform
    left join confirmed
        on
            participants.event_id = confirmed.event_id
            and participants.merchant_no = confirmed.merchant_no
            and participants.platform = confirmed.platform
    left join links on links.source_key = {{ shop_key('participants') }}
)

select * from final
