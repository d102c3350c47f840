-- One row per entity of a source that the linkage knows: which enterprise it is, on what basis, or why not.
select
    source,
    source_key,
    number,
    state,
    basis,
    probability,
    evidence
from {{ source('ops', 'identity_link_known') }}
