-- One row per month, chapter and batch: every version of what the Mainland reports, the current one marked.
{{
    config(
        materialized='versioned',
        renamed={'period': 'month_start', 'code': 'chapter'},
        indexes=[{'columns': ['month_start']}],
        leaves_out=['reporter_code', 'partner_code', 'flow', 'classification', 'code_description', 'cif_usd']
    )
}}

select
    month_start,
    chapter,
    value_usd,
    is_reported,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_comtrade__mirror_imports') }}
