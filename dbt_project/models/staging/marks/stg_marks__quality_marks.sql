-- One row per scheme, certificate and change of its status, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('quality_marks') }})

select
    deliveries.scheme,
    deliveries.certificate_no,
    deliveries.status_at,
    deliveries.status,
    deliveries.issuer,
    deliveries.scope,
    deliveries.holder_name,
    deliveries.subject,
    deliveries.platform,
    deliveries.store_id,
    deliveries.holder_brn,
    deliveries.valid_from,
    deliveries.valid_to,
    {{ lineage() }}
from deliveries
