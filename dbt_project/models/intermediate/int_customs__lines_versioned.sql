-- One row per declaration line, version and batch: every version of the declarations, the current lines marked.
{{
    config(
        unique_key=['declaration_no'],
        incremental_strategy='delete+insert',
        indexes=[
            {'columns': ['declaration_no']},
            {'columns': ['movement_date'], 'type': 'brin'},
            {'columns': ['build_no'], 'type': 'brin'}
        ]
    )
}}

{{
    versions('customs_declarations', ref('stg_customs__declarations'), [
        'form_type', 'lodged_at', 'movement_date', 'counterparty_country_code', 'origin_country_code', 'trader_id',
        'agent_brn', 'hkhs_code', 'value_hkd'
    ])
}}
