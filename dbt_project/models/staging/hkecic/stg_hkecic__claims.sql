-- One row per claim, status taken and day on which it took it, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('hkecic_claims') }})

select
    deliveries.claim_no,
    deliveries.status,
    deliveries.status_on,
    deliveries.lodged_on,
    deliveries.policy_no,
    deliveries.shipment_no,
    deliveries.policyholder_name_zh,
    deliveries.cause,
    deliveries.cause_text_zh,
    deliveries.remarks_zh,
    deliveries.amount_claimed_hkd,
    deliveries.amount_paid_hkd,
    deliveries.amount_recovered_hkd,
    {{ lineage() }}
from deliveries
