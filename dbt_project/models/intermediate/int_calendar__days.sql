-- One row per day from 2012 to two years after the release day: whether it is a general holiday of Hong Kong or was closed, the
-- first day from it on that is neither, and until when goods that moved on it have to be declared.
{{
    config(
        unique_key='day',
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['day'], 'unique': true}, {'columns': ['build_no']}]
    )
}}

with open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

holidays as (
    select * from {{ ref('stg_ops__general_holidays') }}
),

closures as (
    select * from {{ ref('stg_ops__closures') }} where feed is null
),

-- A month longer than what is kept, so that the last days too have a next open one.
days as (
    {{ days_between(
        "cast('2012-01-01' as date)",
        '(select ' ~ dbt.dateadd('day', 31, dbt.dateadd('year', 2, 'as_of_date')) ~ ' from open_build)'
    ) }}
),

marked as (
    select
        days.day,
        {{ iso_weekday('days.day') }} as weekday_no,
        holidays.name as holiday_name,
        -- Every Sunday is a general holiday (Cap. 149).
        holidays.day is not null or {{ iso_weekday('days.day') }} = 7 as is_general_holiday,
        closures.day is not null as is_closed
    from days
    left join holidays on days.day = holidays.day
    left join closures on days.day = closures.day
),

-- From the last day back, so that the frame only grows: one that shrinks is looked through again for each of 6,000 days.
opened as (
    select
        marked.*,
        min(case when not (is_general_holiday or is_closed) then day end) over (
            order by day desc rows between unbounded preceding and current row
        ) as next_open_day
    from marked
),

-- A last day that is a holiday, or a day of gale or black rainstorm, moves to the next day that is neither: Cap. 1 s. 71(1)(b).
dated as (
    select
        opened.day,
        cast(opened.weekday_no as integer) as weekday_no,
        opened.holiday_name,
        opened.is_general_holiday,
        opened.is_closed,
        opened.next_open_day,
        last_days.next_open_day as declaration_due_on,
        open_build.build_no
    from opened
    cross join open_build
    left join opened as last_days
        on {{ dbt.dateadd('day', days_to_settle('customs_declarations'), 'opened.day') }} = last_days.day
    where opened.day <= {{ dbt.dateadd('year', 2, 'open_build.as_of_date') }}
),

-- Only what differs is written, with the number of the build: what was late by another calendar is judged again.
final as (
    select dated.*
    from dated
    {%- if is_incremental() %}
        left join {{ this }} as kept on dated.day = kept.day
        where
            kept.day is null
            or kept.is_general_holiday <> dated.is_general_holiday
            or kept.is_closed <> dated.is_closed
            or coalesce(kept.holiday_name, '') <> coalesce(dated.holiday_name, '')
            or coalesce(kept.next_open_day, kept.day) <> coalesce(dated.next_open_day, dated.day)
            or coalesce(kept.declaration_due_on, kept.day) <> coalesce(dated.declaration_due_on, dated.day)
    {%- endif %}
)

select * from final
