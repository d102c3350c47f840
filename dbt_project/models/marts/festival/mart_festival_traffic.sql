-- One row per event, shop that took part and day, from 28 days before the event to its last day: visits and live streams, and
-- how many visits became paid orders. Visitors are counted per shop and day and cannot be added up.
{{ config(indexes=[{'columns': ['event_id', 'day']}]) }}

with participants as (
    select * from {{ ref('int_festival__participants') }}
),

traffic as (
    select * from {{ ref('int_traffic__versioned') }} where is_current
),

daily as (
    select * from {{ ref('int_orders__daily') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'shop'
),

open_build as (
    {{ release_columns(['platform_traffic', 'platform_orders', 'festival_participants']) }}
),

sold as (
    select
        platform,
        store_id,
        day,
        sum(paid_order_count) as paid_order_count,
        sum(paid_cny) as paid_cny
    from daily
    group by platform, store_id, day
),

final as (
    select
        participants.event_id,
        participants.merchant_no,
        participants.platform,
        participants.store_id,
        traffic.stat_date as day,
        case when traffic.stat_date < participants.first_day then 'before' else 'during' end as phase,
        links.sme_id,
        cast(traffic.visit_count as bigint) as visit_count,
        cast(traffic.visitor_count as bigint) as visitor_count,
        cast(traffic.new_visitor_count as bigint) as new_visitor_count,
        cast(traffic.live_session_count as bigint) as live_session_count,
        cast(traffic.live_minutes as bigint) as live_minutes,
        cast(traffic.live_viewer_count as bigint) as live_viewer_count,
        cast(traffic.live_payment_cny as numeric(20, 2)) as live_payment_cny,
        cast(coalesce(sold.paid_order_count, 0) as bigint) as paid_order_count,
        cast(coalesce(sold.paid_cny, 0) as numeric(20, 2)) as paid_cny,
        cast(
            {{ shown_from('traffic.visit_count', 'coalesce(sold.paid_order_count, 0) * 1.0 / traffic.visit_count') }}
            as numeric(20, 4)
        ) as conversion_ratio,
        coalesce(open_build.last_complete_date < traffic.stat_date, true) as is_provisional,
        {{
            is_quotable(
                'coalesce(open_build.last_complete_date < traffic.stat_date, true)',
                'coalesce(traffic.stat_date >= (' ~ first_whole_order_day() ~ '), false)'
            )
        }} as is_quotable,
        open_build.last_complete_date,
        cast('shops that share their data' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from participants
    inner join traffic
        on
            participants.platform = traffic.platform
            and participants.store_id = traffic.store_id
            and traffic.stat_date >= {{ dbt.dateadd('day', -28, 'participants.first_day') }}
            and participants.last_day >= traffic.stat_date
    cross join open_build
    left join sold
        on traffic.platform = sold.platform and traffic.store_id = sold.store_id and traffic.stat_date = sold.day
    left join links on links.source_key = {{ shop_key('participants') }}
)

select * from final
