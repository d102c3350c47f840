-- One row per measure, SME and month that is there whole and settled: what it sold. Where more was refunded than
-- paid of a month it is zero.
{{ config(materialized='table') }}

with sales as (
    select * from {{ ref('int_sales__monthly') }}
),

spans as (
    select * from {{ ref('int_funding__outcome_spans') }}
),

final as (
    select
        sales.measure,
        sales.sme_id,
        sales.month,
        cast(greatest(sales.value_hkd, 0) as numeric(20, 2)) as value_hkd
    from sales
    inner join spans
        on sales.measure = spans.measure and sales.month between spans.first_month and spans.last_month
)

select * from final
