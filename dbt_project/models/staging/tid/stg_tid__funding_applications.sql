-- One row per application and change of status, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('funding_applications') }})

select
    deliveries.application_no,
    deliveries.status_at,
    deliveries.status,
    deliveries.programme,
    deliveries.received_on,
    deliveries.brn,
    deliveries.applicant_name,
    deliveries.market as market_code,
    deliveries.purpose,
    deliveries.platform,
    deliveries.amount_applied_hkd,
    deliveries.amount_approved_hkd,
    deliveries.project_start_on,
    deliveries.project_end_on,
    {{ lineage() }}
from deliveries
