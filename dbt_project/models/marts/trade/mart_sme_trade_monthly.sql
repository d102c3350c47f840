-- One row per enterprise, month of movement, flow, market and HKHS chapter. Parcels under HK$4,000, transhipment and samples need
-- no declaration and are absent; a month is provisional until declarations for its last day are due (14 days after it).
{{ config(indexes=[{'columns': ['movement_month']}]) }}

{{ declared_trade(ref('dim_sme')) }}
