-- One row per payment and batch: every version of the payments, the current one marked.
{{
    config(
        unique_key=['payment_no'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['payment_no']}]
    )
}}

{{
    versions('funding_payments', ref('stg_tid__funding_payments'), [
        'application_no', 'programme', 'brn', 'instalment', 'amount_hkd', 'paid_on'
    ])
}}
