-- One row per period (each festival, with the shops that took part, and the last 12 months) and platform, or all platforms: what was
-- sold in live streams, and what shops sold on days with one against their other days, with a 95% interval.
with days as (
    select * from {{ ref('int_live_streams__days') }}
),

rates as (
    select * from {{ ref('int_rates__days') }}
),

effects as (
    select * from {{ ref('stg_ops__shop_effects') }} where study = 'live_stream'
),

open_build as (
    {{ release_columns(['platform_traffic', 'platform_orders', 'festival_participants']) }}
),

beginning as (
    select greatest(whole_orders.first_day, counted.first_date) as first_day
    from ({{ first_whole_order_day() }}) as whole_orders
    cross join {{ ref('int_feeds__completeness') }} as counted
    where counted.feed = 'platform_traffic'
),

summed as (
    select
        days.period,
        days.platform,
        coalesce(days.platform, 'all') as audience,
        min(days.period_first_day) as period_first_day,
        max(days.period_last_day) as period_last_day,
        count(distinct days.shop) as shop_count,
        count(distinct case when days.live_session_count > 0 then days.shop end) as live_shop_count,
        count(distinct case when days.sme_class = 'unknown' then days.shop end) as unknown_size_shop_count,
        sum(days.live_session_count) as session_count,
        sum(days.live_minutes) as live_minutes,
        sum(days.live_viewer_count) as live_viewer_count,
        sum(days.live_payment_cny * rates.hkd_per_cny) as live_payment_hkd,
        sum(days.paid_cny * rates.hkd_per_cny) as paid_hkd,
        {{ any_true('rates.awaits_rate') }} as awaits_rate
    from days
    left join rates on days.day = rates.day
    group by grouping sets ((days.period, days.platform), (days.period))
),

judged as (
    select
        summed.*,
        coalesce(open_build.last_complete_date < summed.period_last_day, true) or summed.awaits_rate as is_provisional,
        coalesce(beginning.first_day <= summed.period_first_day, false) as is_fully_covered,
        open_build.last_complete_date,
        open_build.release_no
    from summed
    cross join open_build
    left join beginning on true
),

final as (
    select
        judged.period,
        judged.audience,
        judged.platform,
        judged.period_first_day,
        judged.period_last_day,
        cast(judged.shop_count as integer) as shop_count,
        cast(judged.live_shop_count as integer) as live_shop_count,
        cast(judged.unknown_size_shop_count as integer) as unknown_size_shop_count,
        cast(judged.session_count as bigint) as session_count,
        cast(judged.live_minutes as bigint) as live_minutes,
        cast(judged.live_viewer_count as bigint) as live_viewer_count,
        cast(judged.live_payment_hkd as numeric(20, 2)) as live_payment_hkd,
        cast(judged.paid_hkd as numeric(20, 2)) as paid_hkd,
        cast({{ shown_from('judged.live_shop_count', 'judged.live_payment_hkd / nullif(judged.paid_hkd, 0)') }} as numeric(20, 4))
            as live_share,
        cast(
            {{ shown_from('judged.live_shop_count', 'judged.live_payment_hkd / nullif(judged.live_minutes, 0)') }}
            as numeric(20, 2)
        ) as live_payment_per_minute_hkd,
        coalesce(effects.status, 'too_few') as estimate_status,
        coalesce(effects.compared_shop_count, 0) as compared_shop_count,
        cast(effects.ratio as numeric(20, 4)) as effect_ratio,
        cast(effects.ratio_low as numeric(20, 4)) as effect_low_ratio,
        cast(effects.ratio_high as numeric(20, 4)) as effect_high_ratio,
        cast(effects.risen_share as numeric(20, 4)) as risen_shop_share,
        judged.is_provisional,
        judged.is_fully_covered,
        {{ is_quotable('judged.is_provisional', 'judged.is_fully_covered') }} as is_quotable,
        judged.last_complete_date,
        cast('shops that share their data; when a shop streams is its own choice' as {{ dbt.type_string() }}) as coverage_note,
        judged.release_no
    from judged
    left join effects on judged.period = effects.event and judged.audience = effects.audience
)

select * from final
