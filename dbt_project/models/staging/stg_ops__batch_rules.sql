-- One row per batch and expectation that was asked of it.
select
    batch_id,
    rule,
    severity,
    success as is_met
from {{ source('ops', 'gate_result_seen') }}
where batch_id is not null
