-- One row per trader and month whose lines the open build changed, added or withdrew.
{{ config(materialized='view') }}

{{ changed_in_build(ref('int_customs__lines_versioned'), ['trader_id', month_of('movement_date') ~ ' as month']) }}
