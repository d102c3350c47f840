-- One row per measure, group of programmes, length of the windows and month before or after: what the open build estimated.
with outcomes as (
    select * from {{ source('ops', 'funding_outcome_month') }}
),

open_build as (
    select * from {{ source('ops', 'open_build') }}
),

final as (
    select outcomes.*
    from outcomes
    inner join open_build on outcomes.build_no = open_build.build_no
)

select * from final
