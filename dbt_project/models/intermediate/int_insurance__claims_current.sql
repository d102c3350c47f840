-- One row per claim with what came of it so far.
{{ config(materialized='view') }}

with statuses as (
    select * from {{ ref('int_insurance__claims_versioned') }} where is_current
),

final as (
    select
        claim_no,
        policy_no,
        shipment_no,
        max(amount_claimed_hkd) as claimed_hkd,
        max(coalesce(amount_paid_hkd, 0)) as paid_hkd,
        max(coalesce(amount_recovered_hkd, 0)) as recovered_hkd
    from statuses
    group by claim_no, policy_no, shipment_no
)

select * from final
