-- One row per cell of a published table and month that a release has shown, as it was shown first.
select
    table_name,
    series,
    period,
    row_key,
    column_key,
    value,
    is_suppressed
from {{ source('ops', 'published_known') }}
