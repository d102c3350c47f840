-- One row per enterprise, branch and batch: every version of the business register, the current one marked.
{{
    config(
        unique_key=['brn', 'branch_no'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['brn', 'branch_no']}]
    )
}}

{{
    versions('business_register', ref('stg_registers__business_register'), [
        'name_en', 'name_zh', 'legal_form', 'status', 'commencement_date', 'cessation_date', 'industry_section',
        'hsic_code', 'persons_engaged_count', 'size_basis', 'size_as_of', 'district'
    ])
}}
