-- One row per payment, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('funding_payments') }})

select
    deliveries.payment_no,
    deliveries.application_no,
    deliveries.programme,
    deliveries.brn,
    deliveries.instalment,
    deliveries.amount_hkd,
    deliveries.paid_on,
    {{ lineage() }}
from deliveries
