-- One row per day: its month, whether it is a business day, a general holiday or was closed, and the festival on it. Goods that
-- move on it have to be declared by declaration_due_on.
with calendar as (
    select * from {{ ref('int_calendar__days') }}
),

festivals as (
    select * from {{ ref('festival_events') }}
),

open_build as (
    {{ release_columns() }}
),

festival_days as (
    select
        calendar.day,
        min(festivals.event_id) as event_id
    from calendar
    inner join festivals on calendar.day between festivals.first_day and festivals.last_day
    group by calendar.day
),

final as (
    select
        calendar.day,
        {{ month_of('calendar.day') }} as month,
        calendar.weekday_no,
        calendar.weekday_no < 6 and not calendar.is_general_holiday and not calendar.is_closed as is_business_day,
        calendar.is_general_holiday,
        cast(calendar.holiday_name as text) as holiday_name_en,
        calendar.is_closed,
        calendar.next_open_day,
        calendar.declaration_due_on,
        cast(festival_days.event_id as text) as event_id,
        open_build.release_no
    from calendar
    cross join open_build
    left join festival_days on calendar.day = festival_days.day
)

select * from final
