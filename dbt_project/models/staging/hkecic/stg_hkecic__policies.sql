-- One row per policy and business date on which it was issued, changed or ended, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('hkecic_policies') }})

select
    deliveries.policy_no,
    deliveries.brn,
    deliveries.policyholder_name,
    deliveries.policy_type,
    deliveries.status,
    deliveries.issued_on,
    deliveries.cover_start_on,
    deliveries.cover_end_on,
    deliveries.indemnity_pct,
    deliveries.max_liability_hkd,
    deliveries.premium_rate_pct,
    {{ lineage() }}
from deliveries
