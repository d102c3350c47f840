-- One row per sme_id that another has replaced.
select
    sme_id,
    number,
    survives_as,
    survivor_number,
    basis
from {{ source('ops', 'identity_survivor') }}
