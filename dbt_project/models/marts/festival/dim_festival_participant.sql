-- One row per event, merchant and platform: who took part, with or without sales, and which SME it is where that is known.
with participants as (
    select * from {{ ref('int_festival__participants_versioned') }} where is_current
),

events as (
    select * from {{ ref('festival_events') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'shop'
),

joined as (
    select * from {{ ref('int_festival__participants') }}
),

open_build as (
    select * from {{ ref('stg_ops__open_build') }}
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
        participants.joined_on,
        participants.status,
        joined.is_new_merchant,
        links.sme_id,
        coalesce(links.link_basis, 'none') as link_basis,
        open_build.build_no as release_no
    from participants
    cross join open_build
    left join events on participants.event_id = events.event_id
    left join joined
        on
            participants.event_id = joined.event_id
            and participants.merchant_no = joined.merchant_no
            and participants.platform = joined.platform
    left join links on links.source_key = {{ dbt.concat(["participants.platform", "':'", "participants.store_id"]) }}
)

select * from final
