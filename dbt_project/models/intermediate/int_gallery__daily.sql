-- One row per store, day, category and supplier: what Design Gallery sold and took back, in the currency of the store.
{{
    config(
        incremental_strategy='replace_changed',
        changed='int_gallery__changed',
        changed_key=['store', 'day'],
        indexes=[{'columns': ['store', 'day', 'category', 'supplier_brn'], 'unique': true}]
    )
}}

with sales as (
    select
        versions.*,
        versions.sale_date as day
    from {{ ref('int_gallery__versioned') }} as versions
    where versions.is_current
),

changed as (
    select * from {{ ref('int_gallery__changed') }}
),

changed_sales as (
    select sales.*
    from sales
    {%- if is_incremental() %}
    inner join changed on sales.store = changed.store and sales.day = changed.day
    {%- endif %}
),

final as (
    select
        store,
        day,
        category,
        supplier_brn,
        count(*) as item_count,
        sum(units_sold) as units_sold,
        sum(units_returned) as units_returned,
        sum(sales_cny) as sales_cny,
        sum(returns_cny) as returns_cny,
        sum(sales_hkd) as sales_hkd,
        sum(returns_hkd) as returns_hkd
    from changed_sales
    group by store, day, category, supplier_brn
)

select * from final
