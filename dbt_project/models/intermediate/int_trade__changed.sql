-- One row per trader and month whose lines the open build changed, added or withdrew, or whose declarations were due on another
-- day than it had seemed: a holiday or closure that became known later.
{{ config(materialized='view') }}

with lines as (
    select * from {{ ref('int_customs__lines_versioned') }}
),

open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

days as (
    select calendar.day
    from {{ ref('int_calendar__days') }} as calendar
    inner join open_build on calendar.build_no = open_build.build_no
),

changed_lines as (
    {{ changed_in_build(ref('int_customs__lines_versioned'), ['trader_id', month_of('movement_date') ~ ' as month']) }}
),

-- The range first: of a build that changed no day it is empty, and no line is read.
judged_again as (
    select distinct
        lines.trader_id,
        {{ month_of('lines.movement_date') }} as month
    from lines
    inner join days on lines.movement_date = days.day
    where
        lines.movement_date >= (select min(firsts.day) from days as firsts)
        and lines.movement_date <= (select max(lasts.day) from days as lasts)
)

select * from changed_lines
union distinct
select * from judged_again
