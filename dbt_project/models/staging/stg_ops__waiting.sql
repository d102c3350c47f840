-- One row per delivery that is held by the gate or was refused on arrival, and that no later one replaced.
select
    feed,
    business_date,
    batch_id,
    received_at,
    rows_held
from {{ source('ops', 'open_problem') }}
