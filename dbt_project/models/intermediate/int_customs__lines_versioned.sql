-- One row per declaration line, version and batch: every version of the declarations, the current lines marked.
{{
    config(
        materialized='versioned',
        indexes=[
            {'columns': ['declaration_no']},
            {'columns': ['movement_date'], 'type': 'brin'},
            {'columns': ['build_no'], 'type': 'brin'}
        ],
        leaves_out=[
            'transport_mode', 'conveyance', 'transport_document_no', 'place', 'trader_name', 'package_count',
            'package_kind', 'goods_description', 'quantity', 'unit_code'
        ]
    )
}}

select
    declaration_no,
    version,
    line_no,
    form_type,
    lodged_at,
    movement_date,
    counterparty_country_code,
    origin_country_code,
    trader_id,
    agent_brn,
    hkhs_code,
    value_hkd,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_customs__declarations') }}
