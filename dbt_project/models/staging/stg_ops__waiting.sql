-- One row per delivery that is held by the gate or was refused at the door, and that no later one took the place of.
select
    feed,
    business_date,
    batch_id,
    received_at,
    rows_held
from {{ source('ops', 'open_problem') }}
