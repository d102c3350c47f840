-- One row per month, code of eight digits, countries of origin and destination and batch: every version of a record of the
-- bulk file, the current one marked. The file's other levels of code repeat the same trade.
{{
    config(
        unique_key=['business_date', 'record_type', 'hs_code', 'origin_country_code', 'destination_country_code'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['month_start']}]
    )
}}

{{
    versions(
        'csd_bulk_hscoccit', "(select * from " ~ ref('stg_csd__bulk_hscoccit') ~ " where record_type = '1') as codes",
        ['month_start', 're_export_value_hkd'],
        renamed={'origin_country': 'origin_country_code', 'destination_country': 'destination_country_code'}, by_date=true
    )
}}
