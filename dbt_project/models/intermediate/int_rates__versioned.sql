-- One row per day with a rate and batch: every version of the exchange rates, the current one marked.
{{
    config(
        materialized='versioned',
        leaves_out=[
            'hkd_per_gbp', 'hkd_per_jpy', 'hkd_per_cad', 'hkd_per_aud', 'hkd_per_sgd', 'hkd_per_twd', 'hkd_per_chf',
            'hkd_per_krw', 'hkd_per_thb', 'hkd_per_myr', 'hkd_per_dem', 'hkd_per_nlg', 'hkd_per_bef', 'hkd_per_frf',
            'hkd_per_itl', 'hkd_per_eur', 'hkd_per_php', 'hkd_per_inr', 'hkd_per_idr', 'hkd_per_zar',
            'hkd_per_special_drawing_rights', 'neeri_1983_trade_wgt', 'neeri_1983_import_wgt',
            'neeri_1983_export_wgt', 'neeri_2000_trade_wgt', 'neeri_2000_import_wgt', 'neeri_2000_export_wgt',
            'neeri_2010_trade_wgt', 'neeri_2010_import_wgt', 'neeri_2010_export_wgt', 'neeri_2020_trade_wgt',
            'neeri_2020_import_wgt', 'neeri_2020_export_wgt'
        ]
    )
}}

select
    end_of_day,
    hkd_per_cny,
    hkd_per_usd,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_hkma__exchange_rates') }}
