-- One row per store, item and day of each batch.
with deliveries as (
    select * from {{ source('raw', 'design_gallery_sales') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }}
),

final as (
    select
        deliveries.sale_date,
        deliveries.store,
        deliveries.sku_id,
        deliveries.item_name,
        deliveries.category,
        deliveries.brand_name,
        deliveries.supplier_brn,
        deliveries.units_sold,
        deliveries.units_returned,
        round(deliveries.sales_cny, 2) as sales_cny,
        round(deliveries.sales_hkd, 2) as sales_hkd,
        round(deliveries.returns_cny, 2) as returns_cny,
        round(deliveries.returns_hkd, 2) as returns_hkd,
        deliveries._batch_id as batch_id,
        deliveries._line as line,
        batches.business_date,
        batches.received_at
    from deliveries
    inner join batches on deliveries._batch_id = batches.batch_id
)

select * from final
