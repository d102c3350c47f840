-- One row per policy and month of shipment whose declared shipments the open build changed.
{{ config(materialized='view') }}

{{ changed_in_build(ref('int_insurance__shipments_versioned'), ['policy_no', month_of('shipped_on') ~ ' as month']) }}
