-- One row per cell that a published table of the open build leaves out. Why is nobody's business: it is not here.
select
    table_name,
    series,
    period,
    row_key,
    column_key
from {{ source('ops', 'suppression_known') }}
