-- One row per month, chapter and batch: every version of what the Mainland reports, the current one marked.
{{
    config(
        unique_key=['month_start', 'chapter'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['month_start']}]
    )
}}

{{
    versions(
        'comtrade_mirror_imports', ref('stg_comtrade__mirror_imports'), ['value_usd', 'is_reported'],
        renamed={'period': 'month_start', 'code': 'chapter'}
    )
}}
