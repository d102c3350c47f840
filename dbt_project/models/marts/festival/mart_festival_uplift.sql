-- One row per event, shop that took part and measure: sales in the 28 days before, the event, the 30 and the 90 days after.
-- Yuan, so that the exchange rate plays no part. Days after the event on which every shop sells more (shopping_days) are left
-- out. A window that is not complete has no figure; shops that do not share their data are absent.
{{ config(indexes=[{'columns': ['sme_id']}]) }}
{%- set time_windows = {
    'before': (dbt.dateadd('day', -28, 'participants.first_day'), dbt.dateadd('day', -1, 'participants.first_day')),
    'during': ('participants.first_day', 'participants.last_day'),
    'after_30': (dbt.dateadd('day', 1, 'participants.last_day'), dbt.dateadd('day', 30, 'participants.last_day')),
    'after_90': (dbt.dateadd('day', 1, 'participants.last_day'), dbt.dateadd('day', 90, 'participants.last_day')),
} %}

with participants as (
    select
        merchants.*,
        {{ dbt.datediff('merchants.first_day', 'merchants.last_day', 'day') }} + 1 as during_days
    from {{ ref('int_festival__participants') }} as merchants
    where
        exists (
            select 1
            from {{ ref('int_orders__daily') }} as shared
            where merchants.platform = shared.platform and merchants.store_id = shared.store_id
        )
),

shopping_days as (
    select * from {{ ref('shopping_days') }}
),

spans as (
    select * from {{ ref('int_festival__windows') }} where measure = 'paid'
),

daily as (
    select
        orders.*,
        shopping_days.shopping_day
    from {{ ref('int_orders__daily') }} as orders
    left join shopping_days on orders.day between shopping_days.first_day and shopping_days.last_day
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'shop'
),

open_build as (
    {{ release_columns(['platform_orders', 'festival_participants']) }}
),

beginning as (
    {{ first_whole_order_day() }}
),

measures as (
    {{ order_measures() }}
),

windows as (
    {% for time_window, (first_day, last_day) in time_windows.items() %}
        select
            participants.*,
            '{{ time_window }}' as time_window,
            cast({{ first_day }} as date) as window_first_day,
            cast({{ last_day }} as date) as window_last_day
        from participants
        {{ 'union all' if not loop.last }}
    {% endfor %}
),

-- Joined inwards: a condition that is more than comparisons makes an outer join try every pair on some engines.
sold as (
    select
        windows.event_id,
        windows.merchant_no,
        windows.platform,
        windows.time_window,
        sum(daily.placed_cny) as placed_cny,
        sum(daily.paid_cny) as paid_cny,
        sum(daily.refunded_cny) as refunded_cny,
        sum(daily.placed_order_count) as placed_order_count,
        sum(daily.paid_order_count) as paid_order_count
    from windows
    inner join daily
        on
            windows.platform = daily.platform
            and windows.store_id = daily.store_id
            and daily.day between windows.window_first_day and windows.window_last_day
    where daily.shopping_day is null or windows.time_window in ('before', 'during')
    group by windows.event_id, windows.merchant_no, windows.platform, windows.time_window
),

sales as (
    select
        windows.event_id,
        windows.merchant_no,
        windows.platform,
        windows.time_window,
        windows.window_first_day,
        windows.window_last_day,
        coalesce(sold.placed_cny, 0) as placed_cny,
        coalesce(sold.paid_cny, 0) as paid_cny,
        coalesce(sold.refunded_cny, 0) as refunded_cny,
        coalesce(sold.placed_order_count, 0) as placed_order_count,
        coalesce(sold.paid_order_count, 0) as paid_order_count
    from windows
    left join sold
        on
            windows.event_id = sold.event_id
            and windows.merchant_no = sold.merchant_no
            and windows.platform = sold.platform
            and windows.time_window = sold.time_window
),

measured as (
    select
        sales.event_id,
        sales.merchant_no,
        sales.platform,
        sales.time_window,
        measures.measure,
        case measures.measure
            when 'placed' then sales.placed_cny
            when 'paid' then sales.paid_cny
            else sales.paid_cny - sales.refunded_cny
        end as value_cny,
        case measures.measure when 'placed' then sales.placed_order_count else sales.paid_order_count end as order_count,
        coalesce(
            beginning.first_day <= sales.window_first_day
            and open_build.last_complete_date >= {{ dbt.dateadd('day', 'measures.days_to_settle', 'sales.window_last_day') }},
            false
        ) as is_complete,
        spans.after_days as day_count
    from sales
    left join spans on sales.event_id = spans.event_id and sales.time_window = spans.time_window
    cross join measures
    cross join open_build
    cross join beginning
),

wide as (
    select
        event_id,
        merchant_no,
        platform,
        measure,
        max(case when is_complete and time_window = 'before' then value_cny end) as before_cny,
        max(case when is_complete and time_window = 'during' then value_cny end) as during_cny,
        max(case when is_complete and time_window = 'after_30' then value_cny end) as after_30_cny,
        max(case when is_complete and time_window = 'after_90' then value_cny end) as after_90_cny,
        max(case when is_complete and time_window = 'before' then order_count end) as before_order_count,
        max(case when is_complete and time_window = 'during' then order_count end) as during_order_count,
        max(case when time_window = 'after_30' then day_count end) as after_30_days,
        max(case when time_window = 'after_90' then day_count end) as after_90_days,
        {{ any_true("is_complete and time_window = 'before'") }} as is_before_complete,
        {{ any_true("is_complete and time_window = 'during'") }} as is_during_complete,
        {{ any_true("is_complete and time_window = 'after_30'") }} as is_after_30_complete,
        {{ any_true("is_complete and time_window = 'after_90'") }} as is_after_90_complete
    from measured
    group by event_id, merchant_no, platform, measure
),

rates as (
    select
        wide.*,
        participants.store_id,
        participants.is_new_merchant,
        participants.during_days,
        wide.before_cny / 28 as before_daily_cny,
        wide.during_cny / participants.during_days as during_daily_cny,
        wide.after_30_cny / nullif(wide.after_30_days, 0) as after_30_daily_cny,
        wide.after_90_cny / nullif(wide.after_90_days, 0) as after_90_daily_cny
    from wide
    inner join participants
        on
            wide.event_id = participants.event_id
            and wide.merchant_no = participants.merchant_no
            and wide.platform = participants.platform
),

final as (
    select
        rates.event_id,
        rates.merchant_no,
        rates.platform,
        rates.measure,
        rates.store_id,
        links.sme_id,
        rates.is_new_merchant,
        cast(rates.before_cny as numeric(20, 2)) as before_cny,
        cast(rates.during_cny as numeric(20, 2)) as during_cny,
        cast(rates.after_30_cny as numeric(20, 2)) as after_30_cny,
        cast(rates.after_90_cny as numeric(20, 2)) as after_90_cny,
        cast(rates.before_order_count as bigint) as before_order_count,
        cast(rates.during_order_count as bigint) as during_order_count,
        cast(rates.after_30_days as integer) as after_30_days,
        cast(rates.after_90_days as integer) as after_90_days,
        cast(rates.before_daily_cny as numeric(20, 2)) as before_daily_cny,
        cast(rates.during_daily_cny as numeric(20, 2)) as during_daily_cny,
        cast(rates.after_30_daily_cny as numeric(20, 2)) as after_30_daily_cny,
        cast(rates.after_90_daily_cny as numeric(20, 2)) as after_90_daily_cny,
        cast(
            {{ shown_from('rates.before_order_count', 'rates.during_daily_cny / nullif(rates.before_daily_cny, 0)') }}
            as numeric(20, 4)
        ) as uplift_ratio,
        cast(
            {{ shown_from('rates.before_order_count', 'rates.after_30_daily_cny / nullif(rates.before_daily_cny, 0)') }}
            as numeric(20, 4)
        ) as retained_30_ratio,
        cast(
            {{ shown_from('rates.before_order_count', 'rates.after_90_daily_cny / nullif(rates.before_daily_cny, 0)') }}
            as numeric(20, 4)
        ) as retained_90_ratio,
        rates.is_before_complete,
        rates.is_during_complete,
        rates.is_after_30_complete,
        rates.is_after_90_complete,
        not rates.is_before_complete
        or not rates.is_during_complete
        or not rates.is_after_30_complete
        or not rates.is_after_90_complete as is_provisional,
        {{
            is_quotable(
                'not rates.is_during_complete or not rates.is_after_30_complete or not rates.is_after_90_complete',
                'rates.is_before_complete'
            )
        }} as is_quotable,
        open_build.last_complete_date,
        cast('shops that share their data' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from rates
    cross join open_build
    left join links on links.source_key = {{ shop_key('rates') }}
)

select * from final
