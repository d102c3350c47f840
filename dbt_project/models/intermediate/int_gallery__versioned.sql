-- One row per store, item, day and batch: every version of the sales of Design Gallery, the current one marked.
{{
    config(
        materialized='versioned',
        indexes=[{'columns': ['store', 'sku_id', 'sale_date']}, {'columns': ['build_no'], 'type': 'brin'}],
        leaves_out=['item_name', 'brand_name']
    )
}}

select
    store,
    sku_id,
    sale_date,
    category,
    supplier_brn,
    units_sold,
    units_returned,
    sales_cny,
    sales_hkd,
    returns_cny,
    returns_hkd,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_hktdc__design_gallery_sales') }}
