-- One row per day with a rate and batch: every version of the exchange rates, the current one marked.
{{
    config(
        unique_key=['end_of_day'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['end_of_day']}]
    )
}}

{{ versions('hkma_exchange_rates', ref('stg_hkma__exchange_rates'), ['hkd_per_cny', 'hkd_per_usd']) }}
