-- One row per policy, month of the shipment claimed for, country of its buyer and HKHS chapter. Claims for shipments that
-- were never declared are left out.
{{ config(materialized='view') }}

with claims as (
    select * from {{ ref('int_insurance__claims_current') }}
),

shipments as (
    select * from {{ ref('int_insurance__shipments_versioned') }} where is_current
),

final as (
    select
        claims.policy_no,
        {{ month_of('shipments.shipped_on') }} as month,
        shipments.buyer_country_code,
        substring(shipments.hs_code, 1, 2) as hs_chapter,
        count(*) as claim_count,
        sum(claims.claimed_hkd) as claimed_hkd,
        sum(claims.paid_hkd) as claims_paid_hkd,
        sum(claims.recovered_hkd) as recovered_hkd
    from claims
    inner join shipments on claims.policy_no = shipments.policy_no and claims.shipment_no = shipments.shipment_no
    group by
        claims.policy_no,
        {{ month_of('shipments.shipped_on') }},
        shipments.buyer_country_code,
        substring(shipments.hs_code, 1, 2)
)

select * from final
