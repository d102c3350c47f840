-- One row per source, month, measure, flow, code, origin, partner and batch: every version of a published figure, the current
-- one marked. Flows are never to be added up: total_export is domestic_export and re_export together.
{{
    config(
        materialized='versioned',
        renamed={'period': 'month_start', 'origin': 'origin_iso2_code', 'partner': 'partner_iso2_code'},
        indexes=[{'columns': ['month_start']}],
        leaves_out=['footnote']
    )
}}

select
    source,
    frequency,
    month_start,
    measure,
    flow,
    code_class,
    code,
    origin_iso2_code,
    partner_iso2_code,
    figure_status,
    value_hkd,
    unit_published,
    maturity,
    batch_id,
    business_date,
    received_at
from {{ ref('stg_csd__trade_statistics') }}
