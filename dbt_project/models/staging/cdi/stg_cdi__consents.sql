-- One row per consent and change of its status, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('cdi_consents') }})

select
    deliveries.consent_id,
    deliveries.status_at,
    deliveries.status,
    deliveries.brn,
    deliveries.bank_id,
    deliveries.provider,
    deliveries.scopes,
    deliveries.purpose,
    deliveries.valid_from,
    deliveries.valid_to,
    deliveries.channel,
    {{ lineage() }}
from deliveries
