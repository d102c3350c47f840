-- One row per request and status taken, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('cdi_financing_requests') }})

select
    deliveries.request_no,
    deliveries.status_at,
    deliveries.status,
    deliveries.brn,
    deliveries.bank_id,
    deliveries.consent_id,
    deliveries.product,
    deliveries.data_used,
    deliveries.amount_requested_hkd,
    deliveries.amount_approved_hkd,
    deliveries.branch,
    {{ lineage() }}
from deliveries
