-- One row per event, merchant and platform: who took part, with or without sales, and which SME it is where that is known.
-- Marks are what the merchant claims. A certificate confirms one only when it is the merchant's own and, if it is of a shop, of
-- this shop; as of the release day, not of the event.
with participants as (
    select * from {{ ref('int_festival__participants_versioned') }} where is_current
),

events as (
    select * from {{ ref('festival_events') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'shop'
),

certificates as (
    select * from {{ ref('int_marks__current') }}
),

joined as (
    select * from {{ ref('int_festival__participants') }}
),

smes as (
    select * from {{ ref('dim_sme') }}
),

open_build as (
    {{ release_columns() }}
),

-- By number, not by looking for every certificate in every list.
listed as (
    select
        event_id,
        merchant_no,
        platform,
        store_id,
        {{ each_of('mark_codes') }} as certificate_no
    from participants
),

claimed as (
    select
        listed.event_id,
        listed.merchant_no,
        listed.platform,
        certificates.certificate_no,
        certificates.is_valid,
        case
            when certificates.sme_id <> links.sme_id then 'another'
            when certificates.platform = listed.platform and certificates.store_id = listed.store_id then 'own'
            when certificates.store_id is not null then 'another'
            when certificates.sme_id is null or links.sme_id is null then 'unknown'
            -- Of a shop in the street.
            when certificates.mark_scope = 'shop' then 'another'
            else 'own'
        end as holder
    from listed
    inner join certificates on listed.certificate_no = certificates.certificate_no
    left join links on links.source_key = {{ shop_key('listed') }}
),

judged as (
    select
        event_id,
        merchant_no,
        platform,
        count(distinct case when is_valid and holder = 'own' then certificate_no end) as valid_mark_count,
        count(distinct case when holder = 'another' then certificate_no end) as of_another_count,
        count(distinct case when is_valid and holder = 'unknown' then certificate_no end) as holder_unknown_count
    from claimed
    group by event_id, merchant_no, platform
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
        cast(coalesce(judged.valid_mark_count, 0) as integer) as valid_claimed_mark_count,
        cast(coalesce(judged.of_another_count, 0) as integer) as claimed_of_another_count,
        cast(coalesce(judged.holder_unknown_count, 0) as integer) as claimed_holder_unknown_count,
        participants.joined_on,
        participants.status as participant_status,
        joined.is_new_merchant,
        {{ is_emerging('smes', 'events.first_day') }} as is_emerging,
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
    left join judged
        on
            participants.event_id = judged.event_id
            and participants.merchant_no = judged.merchant_no
            and participants.platform = judged.platform
    left join links on links.source_key = {{ shop_key('participants') }}
    left join smes on links.sme_id = smes.sme_id
)

select * from final
