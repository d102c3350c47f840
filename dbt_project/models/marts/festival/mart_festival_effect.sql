-- One row per event, measure, window and audience: how sales of the shops that took part changed against shops that did not, on the
-- same platform and in the same category, with a 95% interval. `placebo` compares the two halves of the 28 days before.
with effects as (
    select * from {{ ref('stg_ops__shop_effects') }} where study = 'festival'
),

windows as (
    select * from {{ ref('int_festival__windows') }}
),

open_build as (
    {{ release_columns(['platform_orders', 'festival_participants', 'business_register']) }}
),

audiences as (
    {% for audience in ['all', 'new', 'repeat', 'emerging'] %}
        select '{{ audience }}' as audience
        {{ 'union all' if not loop.last }}
    {% endfor %}
),

final as (
    select
        windows.event_id,
        windows.measure,
        windows.time_window,
        audiences.audience,
        case when windows.is_complete then coalesce(effects.status, 'too_few') else 'not_complete' end as estimate_status,
        windows.after_first_day as window_first_day,
        windows.after_last_day as window_last_day,
        cast(windows.after_days as integer) as window_days,
        coalesce(effects.shop_count, 0) as shop_count,
        coalesce(effects.compared_shop_count, 0) as compared_shop_count,
        coalesce(effects.other_shop_count, 0) as other_shop_count,
        cast(effects.ratio as numeric(20, 4)) as effect_ratio,
        cast(effects.ratio_low as numeric(20, 4)) as effect_low_ratio,
        cast(effects.ratio_high as numeric(20, 4)) as effect_high_ratio,
        cast(effects.own_change as numeric(20, 4)) as own_change_ratio,
        cast(effects.others_change as numeric(20, 4)) as others_change_ratio,
        cast(effects.risen_share as numeric(20, 4)) as risen_shop_share,
        not windows.is_complete as is_provisional,
        windows.is_complete as is_quotable,
        open_build.last_complete_date,
        cast('shops that share their data; who takes part may differ in ways that no feed shows' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from windows
    cross join audiences
    cross join open_build
    left join effects
        on
            windows.event_id = effects.event
            and windows.measure = effects.measure
            and windows.time_window = effects.time_window
            and audiences.audience = effects.audience
)

select * from final
