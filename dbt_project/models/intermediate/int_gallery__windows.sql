-- One row per event and window of days: the days that are compared of Design Gallery, and whether its sales and the orders of the
-- shops that it is compared with are there.
{{ config(materialized='view') }}

with windows as (
    select * from {{ ref('int_festival__windows') }} where measure = 'paid'
),

history as (
    select * from {{ ref('int_feeds__completeness') }} where feed = 'design_gallery_sales'
),

final as (
    select
        windows.event_id,
        windows.time_window,
        windows.before_first_day,
        windows.before_last_day,
        windows.after_first_day,
        windows.after_last_day,
        windows.before_days,
        windows.after_days,
        windows.is_complete
        and coalesce(
            history.first_date <= windows.before_first_day and history.last_complete_date >= windows.after_last_day, false
        ) as is_complete
    from windows
    left join history on true
)

select * from final
