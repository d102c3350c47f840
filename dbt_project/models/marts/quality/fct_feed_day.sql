-- One row per feed and delivery that it owes: when it was due, what came, and where it is stuck if it did not arrive. As it
-- stood when the release was built: by now more may be due; `sampan status` and ops.feed_day are live.
{{ config(indexes=[{'columns': ['business_date']}]) }}

with owed as (
    select * from {{ ref('stg_ops__feed_days') }}
),

open_build as (
    {{ release_columns() }}
),

final as (
    select
        owed.feed,
        owed.business_date,
        owed.last_date,
        owed.due_at,
        owed.deadline_at,
        cast(owed.state as {{ dbt.type_string() }}) as state,
        owed.state in ('held', 'late_here', 'late_at_partner') as is_broken,
        cast(owed.delivery_count as integer) as delivery_count,
        cast(owed.held_delivery_count as integer) as held_delivery_count,
        owed.first_received_at,
        owed.published_at,
        coalesce(owed.first_received_at > owed.due_at, false) as is_late,
        owed.rows_published,
        owed.rows_late,
        owed.judged_at,
        open_build.release_no
    from owed
    cross join open_build
)

select * from final
