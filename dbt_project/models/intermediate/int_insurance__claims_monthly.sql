-- One row per policy, month of the shipment claimed for, country of its buyer and HKHS chapter. Claims for shipments that
-- were never declared are left out.
{{ config(materialized='view') }}

with statuses as (
    select * from {{ ref('int_insurance__claims_versioned') }} where is_current
),

shipments as (
    select * from {{ ref('int_insurance__shipments_versioned') }} where is_current
),

claims as (
    select
        claim_no,
        policy_no,
        shipment_no,
        max(amount_claimed_hkd) as claimed_hkd,
        max(amount_paid_hkd) as paid_hkd,
        max(amount_recovered_hkd) as recovered_hkd
    from statuses
    group by claim_no, policy_no, shipment_no
),

final as (
    select
        claims.policy_no,
        {{ month_of('shipments.shipped_on') }} as month,
        shipments.buyer_country_code,
        substring(shipments.hs_code, 1, 2) as hs_chapter,
        count(*) as claim_count,
        sum(claims.claimed_hkd) as claimed_hkd,
        sum(coalesce(claims.paid_hkd, 0)) as claims_paid_hkd,
        sum(coalesce(claims.recovered_hkd, 0)) as recovered_hkd
    from claims
    inner join shipments on claims.policy_no = shipments.policy_no and claims.shipment_no = shipments.shipment_no
    group by
        claims.policy_no,
        {{ month_of('shipments.shipped_on') }},
        shipments.buyer_country_code,
        substring(shipments.hs_code, 1, 2)
)

select * from final
