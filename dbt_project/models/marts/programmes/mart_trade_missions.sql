-- One row per event and participant of a trade mission, with what followed in the market and online. Meetings and expected orders
-- are what participants answered after the event; half do not answer. The month of an event is neither before nor after it.
{{ config(indexes=[{'columns': ['sme_id']}]) }}

with missions as (
    select * from {{ ref('int_missions__versioned') }} where is_current
),

links as (
    select * from {{ ref('int_sme__linked') }}
),

trade as (
    select * from {{ ref('int_trade__monthly') }} where flow <> 'import'
),

orders as (
    select * from {{ ref('int_orders__daily') }} where paid_cny > 0
),

festivals as (
    select * from {{ ref('int_festival__participants') }}
),

countries as (
    select * from {{ ref('csd_countries') }}
),

open_build as (
    {{ release_columns(['trade_missions', 'customs_declarations', 'platform_orders', 'festival_participants']) }}
),

participants as (
    select
        missions.*,
        links.sme_id,
        links.link_basis,
        {{ month_of('missions.starts_on') }} as first_month,
        {{ month_of('missions.ends_on') }} as last_month,
        cast({{ dbt.dateadd('day', 180, 'missions.ends_on') }} as date) as followed_until
    from missions
    left join links
        on
            links.source = 'mission'
            and links.source_key = {{ dbt.concat(["missions.event_id", "':'", "missions.participant_no"]) }}
),

exported as (
    select
        participants.event_id,
        participants.participant_no,
        max(case when trade.month < participants.first_month then trade.month end) as last_month_before,
        min(case when trade.month > participants.last_month then trade.month end) as first_month_after
    from participants
    inner join links on links.source = 'number' and participants.sme_id = links.sme_id
    inner join trade on links.source_key = trade.trader_id and participants.market_code = trade.market_csd_code
    group by participants.event_id, participants.participant_no
),

first_sales as (
    select
        links.sme_id,
        min(orders.day) as first_sold_on
    from orders
    inner join links on links.source = 'shop' and links.source_key = {{ shop_key('orders') }}
    group by links.sme_id
),

joined as (
    select distinct
        participants.event_id,
        participants.participant_no
    from participants
    inner join links on links.source = 'shop' and participants.sme_id = links.sme_id
    inner join festivals
        on
            links.source_key = {{ shop_key('festivals') }}
            and participants.ends_on < festivals.first_day
            and participants.followed_until >= festivals.first_day
),

final as (
    select
        participants.event_id,
        participants.participant_no,
        participants.event_name,
        participants.market_code as market_csd_code,
        countries.iso2_code as market_iso2_code,
        participants.starts_on,
        participants.ends_on,
        participants.enterprise_name,
        participants.sme_id,
        coalesce(participants.link_basis, 'none') as link_basis,
        participants.status as attendance_status,
        cast(participants.meetings as integer) as meeting_count,
        cast(participants.expected_orders_hkd as numeric(20, 2)) as expected_orders_hkd,
        case
            when participants.sme_id is null then null
            when exported.last_month_before >= {{ dbt.dateadd('month', -12, 'participants.first_month') }} then true
            when {{ first_month('customs_declarations') }} < {{ dbt.dateadd('month', -12, 'participants.first_month') }} then false
        end as exported_to_market_before,
        exported.first_month_after as first_export_month_after,
        cast({{ dbt.datediff('participants.last_month', 'exported.first_month_after', 'month') }} as integer)
            as months_to_first_export,
        open_build.last_complete_date >= participants.followed_until as is_followed,
        case
            when participants.sme_id is null or {{ first_month('platform_orders') }} >= participants.first_month then null
            when first_sales.first_sold_on > participants.ends_on and first_sales.first_sold_on <= participants.followed_until
                then true
            when open_build.last_complete_date >= participants.followed_until then false
        end as opened_shop_within_180_days,
        case
            when participants.sme_id is null then null
            when joined.event_id is not null then true
            when open_build.last_complete_date >= participants.followed_until then false
        end as joined_festival_within_180_days,
        open_build.last_complete_date,
        open_build.release_no
    from participants
    cross join open_build
    left join exported
        on participants.event_id = exported.event_id and participants.participant_no = exported.participant_no
    left join first_sales on participants.sme_id = first_sales.sme_id
    left join joined on participants.event_id = joined.event_id and participants.participant_no = joined.participant_no
    left join countries on participants.market_code = countries.csd_code
)

select * from final
