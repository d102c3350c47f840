-- One row per enterprise, provider, channel, month and batch: every version of the summaries, the current one marked.
{{
    config(
        unique_key=['brn', 'provider', 'channel', 'month_start'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['brn', 'provider', 'channel', 'month_start']}]
    )
}}

{{
    versions('epayment_summaries', ref('stg_cdi__epayment_summaries'), [
        'consent_id', 'payment_count', 'amount_hkd', 'refund_count', 'refund_hkd'
    ])
}}
