-- One row per policy and month of shipment to be told apart by year of cover anew: its shipments changed, or the policy did.
{{ config(materialized='view') }}

with touched as (
    select * from {{ ref('int_insurance__touched') }}
),

policies as (
    select * from {{ ref('int_insurance__policies_versioned') }}
),

monthly as (
    select * from {{ ref('int_insurance__monthly') }}
),

open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

changed_policies as (
    select distinct policy_no
    from policies
    where build_no = (select open_build.build_no from open_build)
),

final as (
    select
        policy_no,
        month
    from touched
    union distinct
    select
        monthly.policy_no,
        monthly.month
    from monthly
    inner join changed_policies on monthly.policy_no = changed_policies.policy_no
)

select * from final
