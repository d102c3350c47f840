-- One row per feed and delivery that it owes, with its state when the open build was begun.
select
    feed,
    business_date,
    last_date,
    due_at,
    deadline_at,
    state,
    deliveries as delivery_count,
    held_deliveries as held_delivery_count,
    first_received_at,
    published_at,
    rows_published,
    rows_late,
    judged_at
from {{ source('ops', 'feed_day_built') }}
