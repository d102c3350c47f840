-- One row per check, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('credit_reference_checks') }})

select
    deliveries.check_no,
    deliveries.checked_at,
    deliveries.direction,
    deliveries.bank_id,
    deliveries.agency,
    deliveries.brn,
    deliveries.consent_id,
    deliveries.report_hash,
    deliveries.issued_hash,
    deliveries.result,
    deliveries.validation_platform,
    {{ lineage() }}
from deliveries
