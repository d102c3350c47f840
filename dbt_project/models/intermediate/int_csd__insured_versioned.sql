-- One row per financial year, product, measure and batch: every version of a published figure, the current one marked.
{{
    config(
        unique_key=['frequency', 'financial_year', 'product_code', 'measure'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['financial_year']}]
    )
}}

{{
    versions(
        'csd_insured_exports', ref('stg_csd__insured_exports'),
        ['product', 'figure_status', 'value_hkd', 'unit_published', 'maturity'],
        renamed={'period': 'financial_year'}
    )
}}
