-- One row per pseudonym of an individual: the sme_id of the person, which does not follow from it.
select
    pseudonym,
    sme_id
from {{ source('ops', 'person_pseudonym') }}
