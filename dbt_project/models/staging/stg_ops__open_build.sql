-- One row: the build under way. No row when none is, and then incremental models take in nothing.
with final as (
    select
        build_no,
        as_of_date
    from {{ source('ops', 'open_build') }}
)

select * from final
