-- One row per enterprise, branch and batch: every version of the business register, the current one marked.
{{ config(materialized='versioned', leaves_out=['cr_no', 'changed_on']) }}

select
    brn,
    branch_no,
    name_en,
    name_zh,
    legal_form,
    status,
    commencement_date,
    cessation_date,
    industry_section,
    hsic_code,
    persons_engaged_count,
    size_basis,
    size_as_of,
    district,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_registers__business_register') }}
