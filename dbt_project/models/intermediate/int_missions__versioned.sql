-- One row per event, participant and batch: every version of the participants of trade missions, the current one marked.
{{
    config(
        unique_key=['event_id', 'participant_no'],
        incremental_strategy='delete+insert',
        indexes=[{'columns': ['event_id', 'participant_no']}]
    )
}}

{{
    versions('trade_missions', ref('stg_hktdc__trade_missions'), [
        'event_name', 'market_code', 'starts_on', 'ends_on', 'enterprise_name', 'status', 'meetings',
        'expected_orders_hkd'
    ])
}}
