-- One row per policy and declared shipment of each batch.
with deliveries as (
    select * from {{ source('raw', 'hkecic_shipments') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
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
        round(deliveries.invoice_value_hkd, 2) as invoice_value_hkd,
        deliveries.is_ecommerce,
        deliveries.overdue_reported_on,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
