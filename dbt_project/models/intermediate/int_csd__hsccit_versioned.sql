-- One row per month, code of eight digits or total, country of consignment or destination and batch: every version of a record of the
-- bulk file, the current one marked. The file's levels between repeat the same trade.
{{
    config(
        materialized='versioned',
        renamed={'counterparty_country': 'counterparty_country_code'},
        by_date=true,
        indexes=[{'columns': ['month_start']}],
        leaves_out=[
            'import_quantity', 'import_value_ytd_hkd', 'import_quantity_ytd', 'domestic_export_quantity',
            'domestic_export_value_ytd_hkd', 'domestic_export_quantity_ytd', 're_export_quantity',
            're_export_value_ytd_hkd', 're_export_quantity_ytd'
        ]
    )
}}

select
    business_date,
    record_type,
    hs_code,
    counterparty_country_code,
    month_start,
    import_value_hkd,
    domestic_export_value_hkd,
    re_export_value_hkd,
    batch_id,
    received_at
from {{ ref('stg_csd__bulk_hsccit') }}
where record_type in ('0', '1')
