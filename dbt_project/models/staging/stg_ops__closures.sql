-- One row per day on which nothing was due, for one feed or, without a feed, for all, as in a typhoon.
select
    day,
    feed,
    reason
from {{ source('ops', 'closure') }}
