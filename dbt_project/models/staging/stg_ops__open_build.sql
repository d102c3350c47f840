-- One row: the open build. No row when none is, and then incremental models take in nothing.
select
    build_no,
    as_of_date
from {{ source('ops', 'open_build') }}
