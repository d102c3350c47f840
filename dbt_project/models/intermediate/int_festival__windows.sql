-- One row per event, measure and window: the days that are compared, how many they are, and whether their orders are there. Days
-- on which every shop sells more (shopping_days) are left out, but for those of the event itself.
{{ config(materialized='table') }}
{%- set spans = {
    'placebo': ((-28, -15), (-14, -1), 'first_day'),
    'during': ((-28, -1), none, none),
    'after_30': ((-28, -1), (1, 30), 'last_day'),
    'after_90': ((-28, -1), (1, 90), 'last_day'),
} %}

with events as (
    select * from {{ ref('festival_events') }}
),

shopping_days as (
    select * from {{ ref('shopping_days') }}
),

beginning as (
    {{ first_whole_order_day() }}
),

open_build as (
    {{ release_columns(['platform_orders', 'festival_participants']) }}
),

measures as (
    {{ order_measures() }}
),

spans as (
    {% for time_window, (before, after, anchor) in spans.items() %}
        select
            event_id,
            '{{ time_window }}' as time_window,
            cast({{ dbt.dateadd('day', before[0], 'first_day') }} as date) as before_first_day,
            cast({{ dbt.dateadd('day', before[1], 'first_day') }} as date) as before_last_day,
            {% if after %}
                cast({{ dbt.dateadd('day', after[0], anchor) }} as date) as after_first_day,
                cast({{ dbt.dateadd('day', after[1], anchor) }} as date) as after_last_day
            {% else %}
                first_day as after_first_day,
                last_day as after_last_day
            {% endif %}
        from events
        {{ 'union all' if not loop.last }}
    {% endfor %}
),

sides as (
    select
        event_id,
        time_window,
        'before' as side,
        before_first_day as first_day,
        before_last_day as last_day,
        true as leaves_out
    from spans
    union all
    select
        event_id,
        time_window,
        'after' as side,
        after_first_day as first_day,
        after_last_day as last_day,
        time_window <> 'during' as leaves_out
    from spans
),

counted as (
    select
        sides.event_id,
        sides.time_window,
        sides.side,
        {{ dbt.datediff('sides.first_day', 'sides.last_day', 'day') }} + 1 - sum(
            case
                when shopping_days.shopping_day is null then 0
                else
                    {{
                        dbt.datediff(
                            'greatest(shopping_days.first_day, sides.first_day)',
                            'least(shopping_days.last_day, sides.last_day)',
                            'day'
                        )
                    }} + 1
            end
        ) as day_count
    from sides
    left join shopping_days
        on
            sides.leaves_out
            and sides.first_day <= shopping_days.last_day
            and sides.last_day >= shopping_days.first_day
    group by sides.event_id, sides.time_window, sides.side, sides.first_day, sides.last_day
),

final as (
    select
        spans.event_id,
        measures.measure,
        spans.time_window,
        spans.before_first_day,
        spans.before_last_day,
        spans.after_first_day,
        spans.after_last_day,
        days_before.day_count as before_days,
        days_after.day_count as after_days,
        coalesce(
            beginning.first_day <= spans.before_first_day
            and open_build.last_complete_date
            >= {{ dbt.dateadd('day', 'measures.days_to_settle', 'spans.after_last_day') }},
            false
        ) as is_complete
    from spans
    inner join counted as days_before
        on
            spans.event_id = days_before.event_id
            and spans.time_window = days_before.time_window
            and days_before.side = 'before'
    inner join counted as days_after
        on
            spans.event_id = days_after.event_id
            and spans.time_window = days_after.time_window
            and days_after.side = 'after'
    cross join measures
    cross join open_build
    left join beginning on true
)

select * from final
