-- One row per batch in the ledger, regardless of its outcome; replays of quarantined rows are batches of their own.
select
    batch_id,
    feed,
    business_date,
    origin,
    state,
    received_at,
    published_at,
    rows_in,
    rows_published,
    rows_quarantined,
    rows_duplicate
from {{ source('ops', 'batch_seen') }}
