-- One row per person who declares under an HKID number, month of movement, flow, market and HKHS chapter. Marts show persons only
-- in sums.
{{ config(materialized='table') }}

{{ declared_trade("select number, sme_id from " ~ ref('int_sme__persons')) }}
