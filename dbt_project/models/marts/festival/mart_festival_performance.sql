-- One row per event, merchant, platform, category and day of the event. Placed is by day of order (GMV), paid and what of it
-- was refunded since by day of payment; yuan turns into Hong Kong dollars at the HKMA rate of the row's day, or the last one
-- known before it. Shops that do not share their data are absent.
{{ config(indexes=[{'columns': ['event_id', 'day']}, {'columns': ['sme_id']}]) }}

with participants as (
    select * from {{ ref('int_festival__participants') }}
),

daily as (
    select * from {{ ref('int_orders__daily') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'shop'
),

rates as (
    select * from {{ ref('int_rates__days') }}
),

open_build as (
    {{ release_columns(['platform_orders', 'festival_participants']) }}
),

sales as (
    select
        participants.event_id,
        participants.merchant_no,
        participants.platform,
        participants.store_id,
        participants.is_new_merchant,
        daily.category,
        daily.day,
        sum(daily.placed_cny) as placed_cny,
        sum(daily.paid_cny) as paid_cny,
        sum(daily.refunded_cny) as refunded_cny,
        sum(daily.placed_order_count) as placed_order_count,
        sum(daily.paid_order_count) as paid_order_count,
        sum(daily.placed_line_count) as placed_line_count,
        sum(daily.paid_line_count) as paid_line_count,
        sum(daily.refunded_line_count) as refunded_line_count
    from participants
    inner join daily
        on
            participants.platform = daily.platform
            and participants.store_id = daily.store_id
            and daily.day between participants.first_day and participants.last_day
    group by
        participants.event_id,
        participants.merchant_no,
        participants.platform,
        participants.store_id,
        participants.is_new_merchant,
        daily.category,
        daily.day
),

judged as (
    select
        sales.*,
        rates.hkd_per_cny,
        case when rates.rate_day <= sales.day then rates.rate_day end as rate_date,
        coalesce(open_build.last_complete_date < {{ dbt.dateadd('day', days_to_settle('platform_orders'), 'sales.day') }}, true)
        or rates.rate_day is null
        or rates.awaits_rate as is_provisional,
        coalesce(sales.day >= ({{ first_whole_order_day() }}), false) as is_fully_covered
    from sales
    cross join open_build
    left join rates on sales.day = rates.day
),

final as (
    select
        sales.event_id,
        sales.merchant_no,
        sales.platform,
        sales.store_id,
        sales.category,
        sales.day,
        links.sme_id,
        sales.is_new_merchant,
        cast(sales.placed_cny as numeric(20, 2)) as placed_cny,
        cast(sales.paid_cny as numeric(20, 2)) as paid_cny,
        cast(sales.refunded_cny as numeric(20, 2)) as refunded_cny,
        cast(sales.paid_cny - sales.refunded_cny as numeric(20, 2)) as net_cny,
        cast(sales.placed_cny * sales.hkd_per_cny as numeric(20, 2)) as placed_hkd,
        cast(sales.paid_cny * sales.hkd_per_cny as numeric(20, 2)) as paid_hkd,
        cast(sales.refunded_cny * sales.hkd_per_cny as numeric(20, 2)) as refunded_hkd,
        cast((sales.paid_cny - sales.refunded_cny) * sales.hkd_per_cny as numeric(20, 2)) as net_hkd,
        cast(sales.placed_order_count as bigint) as placed_order_count,
        cast(sales.paid_order_count as bigint) as paid_order_count,
        cast(sales.placed_line_count as bigint) as placed_line_count,
        cast(sales.paid_line_count as bigint) as paid_line_count,
        cast(sales.refunded_line_count as bigint) as refunded_line_count,
        cast(sales.hkd_per_cny as numeric(12, 6)) as hkd_per_cny,
        sales.rate_date,
        sales.is_provisional,
        {{ is_quotable('sales.is_provisional', 'sales.is_fully_covered') }} as is_quotable,
        open_build.last_complete_date,
        cast('shops that share their data' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from judged as sales
    cross join open_build
    left join links on links.source_key = {{ shop_key('sales') }}
)

select * from final
