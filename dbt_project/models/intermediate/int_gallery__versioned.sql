-- One row per store, item, day and batch: every version of the sales of Design Gallery, the current one marked.
{{
    config(
        unique_key=['store', 'sku_id', 'sale_date'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['store', 'sku_id', 'sale_date']}, {'columns': ['build_no'], 'type': 'brin'}]
    )
}}

{{
    versions('design_gallery_sales', ref('stg_hktdc__design_gallery_sales'), [
        'category', 'supplier_brn', 'units_sold', 'units_returned', 'sales_cny', 'sales_hkd', 'returns_cny',
        'returns_hkd'
    ])
}}
