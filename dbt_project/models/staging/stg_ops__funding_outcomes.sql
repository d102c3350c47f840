-- One row per measure, group of programmes and length of the windows: what the open build estimated of funded enterprises.
with outcomes as (
    select * from {{ source('ops', 'funding_outcome') }}
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
