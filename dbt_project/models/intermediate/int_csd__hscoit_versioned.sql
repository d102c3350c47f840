-- One row per month, code of eight digits, country of origin and batch: every version of a record of the
-- bulk file, the current one marked. The file's other levels of code repeat the same trade.
{{
    config(
        unique_key=['business_date', 'record_type', 'hs_code', 'origin_country_code'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['month_start']}]
    )
}}

{{
    versions(
        'csd_bulk_hscoit', "(select * from " ~ ref('stg_csd__bulk_hscoit') ~ " where record_type = '1') as codes",
        ['month_start', 'import_value_hkd'],
        renamed={'origin_country': 'origin_country_code'}, by_date=true
    )
}}
