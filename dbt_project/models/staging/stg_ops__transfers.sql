-- One row per data set that left the platform, as the register has it.
select
    transfer_id,
    contract_no,
    mart,
    release_no as shared_release_no,
    recipient,
    recipient_city,
    purpose,
    rows as row_count,
    content_sha256,
    begun_at,
    done_at
from {{ source('ops', 'transfer') }}
