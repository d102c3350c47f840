-- One row per enterprise, month of movement, flow, market and HKHS chapter: merchandise, with gold beside it. Parcels under HK$4,000, transhipment and samples need
-- no declaration and are absent; a month is provisional until declarations for its last day are due.
{{ config(indexes=[{'columns': ['movement_month']}]) }}

{{ declared_trade("select source_key as number, sme_id from " ~ ref('int_sme__linked') ~ " where source = 'number'") }}
