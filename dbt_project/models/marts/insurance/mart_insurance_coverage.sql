-- One row per SME that ever held a policy, month of shipment, market and HKHS chapter: what it declared to HKECIC beside
-- what it exported. Holders may declare monthly and claims follow months later, so recent months are provisional.
with insured as (
    select * from {{ ref('int_insurance__monthly') }}
),

claims as (
    select * from {{ ref('int_insurance__claims_monthly') }}
),

policies as (
    select * from {{ ref('int_insurance__policies_versioned') }} where is_current
),

trade as (
    select * from {{ ref('int_trade__monthly') }} where flow <> 'import'
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

countries as (
    select * from {{ ref('csd_countries') }}
),

open_build as (
    {{ release_columns(['hkecic_policies', 'hkecic_shipments', 'hkecic_claims', 'customs_declarations']) }}
),

holders as (
    select
        policies.policy_no,
        links.sme_id
    from policies
    inner join links on policies.brn = links.source_key
),

holding_smes as (
    select distinct sme_id from holders
),

measures as (
    select
        holders.sme_id,
        insured.month,
        countries.csd_code as market_csd_code,
        insured.buyer_country_code as market_iso2_code,
        insured.hs_chapter,
        insured.insured_value_hkd,
        insured.ecommerce_insured_value_hkd,
        insured.shipment_count,
        insured.overdue_shipment_count,
        insured.overdue_value_hkd,
        0 as claim_count,
        0 as claimed_hkd,
        0 as claims_paid_hkd,
        0 as recovered_hkd,
        0 as export_value_hkd
    from insured
    inner join holders on insured.policy_no = holders.policy_no
    left join countries on insured.buyer_country_code = countries.iso2_code
    union all
    select
        holders.sme_id,
        claims.month,
        countries.csd_code as market_csd_code,
        claims.buyer_country_code as market_iso2_code,
        claims.hs_chapter,
        0 as insured_value_hkd,
        0 as ecommerce_insured_value_hkd,
        0 as shipment_count,
        0 as overdue_shipment_count,
        0 as overdue_value_hkd,
        claims.claim_count,
        claims.claimed_hkd,
        claims.claims_paid_hkd,
        claims.recovered_hkd,
        0 as export_value_hkd
    from claims
    inner join holders on claims.policy_no = holders.policy_no
    left join countries on claims.buyer_country_code = countries.iso2_code
    union all
    select
        links.sme_id,
        trade.month,
        trade.market_csd_code,
        countries.iso2_code as market_iso2_code,
        trade.hs_chapter,
        0 as insured_value_hkd,
        0 as ecommerce_insured_value_hkd,
        0 as shipment_count,
        0 as overdue_shipment_count,
        0 as overdue_value_hkd,
        0 as claim_count,
        0 as claimed_hkd,
        0 as claims_paid_hkd,
        0 as recovered_hkd,
        trade.value_hkd as export_value_hkd
    from trade
    inner join links on trade.trader_id = links.source_key
    inner join holding_smes on links.sme_id = holding_smes.sme_id
    left join countries on trade.market_csd_code = countries.csd_code
),

totals as (
    select
        sme_id,
        month,
        market_csd_code,
        market_iso2_code,
        hs_chapter,
        sum(insured_value_hkd) as insured_value_hkd,
        sum(ecommerce_insured_value_hkd) as ecommerce_insured_value_hkd,
        sum(shipment_count) as shipment_count,
        sum(overdue_shipment_count) as overdue_shipment_count,
        sum(overdue_value_hkd) as overdue_value_hkd,
        sum(claim_count) as claim_count,
        sum(claimed_hkd) as claimed_hkd,
        sum(claims_paid_hkd) as claims_paid_hkd,
        sum(recovered_hkd) as recovered_hkd,
        sum(export_value_hkd) as export_value_hkd
    from measures
    group by sme_id, month, market_csd_code, market_iso2_code, hs_chapter
),

judged as (
    select
        totals.*,
        {{ month_may_grow('hkecic_shipments', 'totals.month', 'open_build.last_complete_date') }} as is_provisional,
        coalesce(
            totals.month > {{ first_month('customs_declarations') }} and totals.month > {{ first_month('hkecic_shipments') }},
            false
        ) as is_fully_covered,
        open_build.last_complete_date,
        open_build.release_no
    from totals
    cross join open_build
),

final as (
    select
        sme_id,
        month as shipment_month,
        coalesce(market_csd_code, 'none') as market_csd_code,
        coalesce(market_iso2_code, 'none') as market_iso2_code,
        hs_chapter,
        cast(insured_value_hkd as numeric(20, 2)) as insured_value_hkd,
        cast(ecommerce_insured_value_hkd as numeric(20, 2)) as ecommerce_insured_value_hkd,
        cast(export_value_hkd as numeric(20, 2)) as export_value_hkd,
        cast(
            case when export_value_hkd > 0 then insured_value_hkd / export_value_hkd end
            as numeric(20, 4)
        ) as coverage_ratio,
        cast(shipment_count as bigint) as shipment_count,
        cast(overdue_shipment_count as bigint) as overdue_shipment_count,
        cast(overdue_value_hkd as numeric(20, 2)) as overdue_value_hkd,
        cast(claim_count as bigint) as claim_count,
        cast(claimed_hkd as numeric(20, 2)) as claimed_hkd,
        cast(claims_paid_hkd as numeric(20, 2)) as claims_paid_hkd,
        cast(recovered_hkd as numeric(20, 2)) as recovered_hkd,
        is_provisional,
        is_fully_covered,
        {{ is_quotable('is_provisional', 'is_fully_covered') }} as is_quotable,
        last_complete_date,
        cast('policyholders' as {{ dbt.type_string() }}) as coverage_note,
        release_no
    from judged
)

select * from final
