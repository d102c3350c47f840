-- One row per store, item (SKU) and day, of each batch.
-- Generated from the contract by `sampan contracts derive`; a model without this line is kept as it is.
with deliveries as ({{ deliveries('design_gallery_sales') }})

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
    deliveries.sales_cny,
    deliveries.sales_hkd,
    deliveries.returns_cny,
    deliveries.returns_hkd,
    {{ lineage() }}
from deliveries
