-- One row per policy and month of shipment to be split by year of cover again: its shipments changed, or the
-- policy did.
{{ config(materialized='view') }}

with changed as (
    select * from {{ ref('int_insurance__changed') }}
),

monthly as (
    select * from {{ ref('int_insurance__monthly') }}
),

changed_policies as (
    {{ changed_in_build(ref('int_insurance__policies_versioned'), ['policy_no']) }}
),

final as (
    select
        policy_no,
        month
    from changed
    union distinct
    select
        monthly.policy_no,
        monthly.month
    from monthly
    inner join changed_policies on monthly.policy_no = changed_policies.policy_no
)

select * from final
