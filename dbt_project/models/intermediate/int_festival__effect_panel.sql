-- One row per event, measure, complete window, shop and category: sales before and after, of shops that took part and of those that
-- did not. A shop counts that sold before the event began; one of an enterprise that took part with another shop does not.
{{ config(materialized='table') }}

with windows as (
    select * from {{ ref('int_festival__windows') }} where is_complete
),

participants as (
    select * from {{ ref('int_festival__participants') }}
),

events as (
    select * from {{ ref('festival_events') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'shop'
),

smes as (
    select * from {{ ref('dim_sme') }}
),

daily as (
    select * from {{ ref('int_shops__daily') }}
),

shops as (
    select
        platform,
        store_id,
        shop,
        sme_id,
        cluster_key,
        min(day) as first_day
    from daily
    group by platform, store_id, shop, sme_id, cluster_key
),

enterprises_taking_part as (
    select distinct
        participants.event_id,
        links.sme_id
    from participants
    inner join links on links.source_key = {{ shop_key('participants') }}
),

sides as (
    select
        events.event_id,
        shops.shop,
        shops.cluster_key,
        participants.store_id is not null as took_part,
        participants.is_new_merchant,
        coalesce({{ is_emerging('smes', 'events.first_day') }}, false) as is_emerging
    from events
    inner join shops on events.first_day > shops.first_day
    left join participants
        on
            events.event_id = participants.event_id
            and shops.platform = participants.platform
            and shops.store_id = participants.store_id
    left join enterprises_taking_part
        on events.event_id = enterprises_taking_part.event_id and shops.sme_id = enterprises_taking_part.sme_id
    left join smes on shops.sme_id = smes.sme_id
    where participants.store_id is not null or enterprises_taking_part.sme_id is null
),

spans as (
    select distinct
        event_id,
        time_window,
        before_first_day,
        before_last_day,
        after_first_day,
        after_last_day
    from windows
),

sales as (
    select
        spans.event_id,
        spans.time_window,
        daily.shop,
        daily.platform,
        daily.category,
        daily.day >= spans.after_first_day as is_after,
        sum(daily.placed_cny) as placed_cny,
        sum(daily.paid_cny) as paid_cny,
        sum(daily.paid_cny - daily.refunded_cny) as net_cny
    from spans
    inner join daily
        on
            daily.day between spans.before_first_day and spans.before_last_day
            or daily.day between spans.after_first_day and spans.after_last_day
    where daily.shopping_day is null or (spans.time_window = 'during' and daily.day >= spans.after_first_day)
    group by
        spans.event_id,
        spans.time_window,
        daily.shop,
        daily.platform,
        daily.category,
        daily.day >= spans.after_first_day
),

measured as (
    select
        windows.event_id,
        windows.measure,
        windows.time_window,
        windows.before_days,
        windows.after_days,
        sales.shop,
        sales.platform,
        sales.category,
        sales.is_after,
        case windows.measure
            when 'placed' then sales.placed_cny
            when 'paid' then sales.paid_cny
            else sales.net_cny
        end as value_cny
    from windows
    inner join sales on windows.event_id = sales.event_id and windows.time_window = sales.time_window
),

final as (
    select
        measured.event_id as event,
        measured.measure,
        measured.time_window,
        sides.cluster_key,
        measured.shop,
        measured.category,
        {{ dbt.concat(["measured.platform", "':'", "measured.category"]) }} as stratum,
        sides.took_part as is_treated,
        case when sides.took_part then {{
            dbt.concat([
                "'all;'",
                "case when sides.is_new_merchant then 'new' else 'repeat' end",
                "case when sides.is_emerging then ';emerging' else '' end",
            ])
        }} else '' end as audiences,
        max(measured.before_days) as before_base,
        max(measured.after_days) as after_base,
        sum(case when measured.is_after then 0 else measured.value_cny end) as before_value,
        sum(case when measured.is_after then measured.value_cny else 0 end) as after_value
    from measured
    inner join sides
        on
            measured.event_id = sides.event_id
            and measured.shop = sides.shop
    group by
        measured.event_id,
        measured.measure,
        measured.time_window,
        measured.shop,
        measured.platform,
        measured.category,
        sides.cluster_key,
        sides.took_part,
        sides.is_new_merchant,
        sides.is_emerging
)

select * from final
