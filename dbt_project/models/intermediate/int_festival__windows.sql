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

-- What was paid may be refunded for two weeks: net of refund is complete that much later.
measures as (
    select
        'placed' as measure,
        0 as days_to_settle
    union all
    select
        'paid' as measure,
        0 as days_to_settle
    union all
    select
        'net' as measure,
        {{ days_to_settle('platform_orders') }} as days_to_settle
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

counted as (
    select
        spans.*,
        {% for side in ['before', 'after'] %}
            {{ dbt.datediff('spans.' ~ side ~ '_first_day', 'spans.' ~ side ~ '_last_day', 'day') }} + 1 - coalesce(
                (
                    select sum(
                        {{
                            dbt.datediff(
                                'greatest(shopping_days.first_day, spans.' ~ side ~ '_first_day)',
                                'least(shopping_days.last_day, spans.' ~ side ~ '_last_day)',
                                'day'
                            )
                        }} + 1
                    )
                    from shopping_days
                    where
                        spans.{{ side }}_first_day <= shopping_days.last_day
                        and spans.{{ side }}_last_day >= shopping_days.first_day
                        and not ('{{ side }}' = 'after' and spans.time_window = 'during')
                ),
                0
            ) as {{ side }}_days{{ ',' if not loop.last }}
        {% endfor %}
    from spans
),

final as (
    select
        counted.event_id,
        measures.measure,
        counted.time_window,
        counted.before_first_day,
        counted.before_last_day,
        counted.after_first_day,
        counted.after_last_day,
        counted.before_days,
        counted.after_days,
        coalesce(
            beginning.first_day <= counted.before_first_day
            and open_build.last_complete_date
            >= {{ dbt.dateadd('day', 'measures.days_to_settle', 'counted.after_last_day') }},
            false
        ) as is_complete
    from counted
    cross join measures
    cross join open_build
    left join beginning on true
)

select * from final
