-- One row per event, merchant, platform and batch: every version of the participants, the current one marked.
{{
    config(
        unique_key=['event_id', 'merchant_no', 'platform'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['event_id', 'merchant_no', 'platform']}]
    )
}}

{{
    versions('festival_participants', ref('stg_hktdc__festival_participants'), [
        'store_id', 'shop_name', 'merchant_name', 'brn', 'operator_uscc', 'categories', 'mark_codes', 'joined_on', 'status'
    ])
}}
