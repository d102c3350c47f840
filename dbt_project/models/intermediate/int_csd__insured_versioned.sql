-- One row per financial year, product, measure and batch: every version of a published figure, the current one marked.
{{ config(materialized='versioned', renamed={'period': 'financial_year'}, indexes=[{'columns': ['financial_year']}]) }}

select
    frequency,
    financial_year,
    product_code,
    measure,
    product,
    figure_status,
    value_hkd,
    unit_published,
    maturity,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_csd__insured_exports') }}
