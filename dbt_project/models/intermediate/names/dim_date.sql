-- One row per day from 2012 to two years after the release day: whether business is done on it in Hong Kong, and which holiday,
-- shopping festival or shopping day falls on it.
with days as (
    select * from {{ ref('int_calendar__days') }}
),

-- The feed has the Chinese names of the years that it covers.
chinese_names as (
    select
        days.day,
        min(holidays.holiday_name) as holiday_name_zh
    from days
    inner join {{ ref('stg_registers__hk_public_holidays') }} as holidays
        on holidays.language = 'tc' and days.day >= holidays.holiday_on and days.day < holidays.day_after
    group by days.day
),

festivals as (
    select
        days.day,
        min(events.event_id) as event_id
    from days
    inner join {{ ref('festival_events') }} as events on days.day between events.first_day and events.last_day
    group by days.day
),

sales as (
    select
        days.day,
        min(shopping_days.shopping_day) as shopping_day,
        min(shopping_days.certainty) as certainty
    from days
    inner join {{ ref('shopping_days') }} as shopping_days
        on days.day between shopping_days.first_day and shopping_days.last_day
    group by days.day
),

open_build as (
    {{ release_columns() }}
),

final as (
    select
        days.day as calendar_date,
        {{ month_of('days.day') }} as month_start,
        days.weekday_no,
        days.weekday_no < 6 and not days.is_general_holiday and not days.is_closed as is_business_day,
        days.is_general_holiday,
        days.is_closed,
        cast(days.holiday_name as {{ dbt.type_string() }}) as holiday_name_en,
        case when days.holiday_name is not null then cast(chinese_names.holiday_name_zh as {{ dbt.type_string() }}) end as holiday_name_zh,
        days.next_open_day,
        days.declaration_due_on,
        cast(festivals.event_id as {{ dbt.type_string() }}) as event_id,
        cast(sales.shopping_day as {{ dbt.type_string() }}) as shopping_day,
        cast(sales.certainty as {{ dbt.type_string() }}) as shopping_day_certainty,
        open_build.release_no
    from days
    cross join open_build
    left join chinese_names on days.day = chinese_names.day
    left join festivals on days.day = festivals.day
    left join sales on days.day = sales.day
)

select * from final
