-- One row per order line that the open build changed.
{{ config(materialized='view') }}

{{ changed_in_build(ref('int_orders__lines_versioned'), ['platform', 'oid']) }}
