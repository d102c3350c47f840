-- One row per study, event, measure, window and audience: what the open build estimated at shops.
with effects as (
    select * from {{ source('ops', 'shop_effect') }}
),

open_build as (
    select * from {{ source('ops', 'open_build') }}
),

final as (
    select effects.*
    from effects
    inner join open_build on effects.build_no = open_build.build_no
)

select * from final
