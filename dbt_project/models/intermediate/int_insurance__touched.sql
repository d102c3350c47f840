-- One row per policy and month of shipment whose declared shipments the build under way changed.
{{ config(materialized='view') }}

with shipments as (
    select * from {{ ref('int_insurance__shipments_versioned') }}
),

open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

final as (
    select distinct
        shipments.policy_no,
        {{ month_of('shipments.shipped_on') }} as month
    from shipments
    where shipments.build_no = (select open_build.build_no from open_build)
)

select * from final
