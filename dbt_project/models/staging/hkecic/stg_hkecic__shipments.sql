-- One row per policy and declared shipment, after the changes of the day, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('hkecic_shipments') }})

select
    deliveries.policy_no,
    deliveries.shipment_no,
    deliveries.declared_on,
    deliveries.shipped_on,
    deliveries.buyer_no,
    deliveries.buyer_country as buyer_country_code,
    deliveries.hs_code,
    deliveries.product,
    deliveries.payment_term,
    deliveries.credit_days,
    deliveries.due_on,
    deliveries.invoice_value_hkd,
    deliveries.is_ecommerce,
    deliveries.overdue_reported_on,
    {{ lineage() }}
from deliveries
