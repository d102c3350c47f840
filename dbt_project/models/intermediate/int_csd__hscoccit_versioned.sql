-- One row per month, code of eight digits or total, countries of origin and destination and batch: every version of a record of the
-- bulk file, the current one marked. The file's levels between repeat the same trade.
{{
    config(
        materialized='versioned',
        renamed={'origin_country': 'origin_country_code', 'destination_country': 'destination_country_code'},
        by_date=true,
        indexes=[{'columns': ['month_start']}],
        leaves_out=['re_export_quantity', 're_export_value_ytd_hkd', 're_export_quantity_ytd']
    )
}}

select
    business_date,
    record_type,
    hs_code,
    origin_country_code,
    destination_country_code,
    month_start,
    re_export_value_hkd,
    batch_id,
    received_at
from {{ ref('stg_csd__bulk_hscoccit') }}
where record_type in ('0', '1')
