-- One row per consent that a person revoked here, before or without the feed, or that the feed revoked longer ago than it is kept.
select
    consent_id,
    revoked_at
from {{ source('ops', 'consent_revocation_known') }}
