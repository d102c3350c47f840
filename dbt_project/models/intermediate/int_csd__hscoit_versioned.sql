-- One row per month, code of eight digits or total, country of origin and batch: every version of a record of the
-- bulk file, the current one marked. The file's levels between repeat the same trade.
{{
    config(
        materialized='versioned',
        renamed={'origin_country': 'origin_country_code'},
        by_date=true,
        indexes=[{'columns': ['month_start']}],
        leaves_out=['import_quantity', 'import_value_ytd_hkd', 'import_quantity_ytd']
    )
}}

select
    business_date,
    record_type,
    hs_code,
    origin_country_code,
    month_start,
    import_value_hkd,
    batch_id,
    received_at
from {{ ref('stg_csd__bulk_hscoit') }}
where record_type in ('0', '1')
