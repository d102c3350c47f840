-- One row per policy and year of cover: what was declared under it against its limit, what was reported overdue, claimed, paid
-- and is outstanding. Shipments may be declared a month late and claims follow for months after the year has ended.
with covers as (
    select * from {{ ref('int_insurance__covers') }}
),

terms as (
    select * from {{ ref('int_insurance__terms') }}
),

monthly as (
    select * from {{ ref('int_insurance__cover_monthly') }}
),

claims as (
    select * from {{ ref('int_insurance__claims_current') }}
),

shipments as (
    select * from {{ ref('int_insurance__shipments_versioned') }} where is_current
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

history as (
    select first_date from {{ ref('int_feeds__completeness') }} where feed = 'hkecic_shipments'
),

open_build as (
    {{ release_columns(['hkecic_policies', 'hkecic_shipments', 'hkecic_claims']) }}
),

declared as (
    select
        policy_no,
        cover_start_on,
        sum(declared_value_hkd) as declared_value_hkd,
        sum(ecommerce_declared_value_hkd) as ecommerce_declared_value_hkd,
        sum(premium_hkd) as premium_hkd,
        sum(shipment_count) as shipment_count,
        sum(overdue_shipment_count) as overdue_shipment_count,
        sum(overdue_value_hkd) as overdue_value_hkd
    from monthly
    group by policy_no, cover_start_on
),

claimed as (
    select
        terms.policy_no,
        terms.cover_start_on,
        count(*) as claim_count,
        sum(claims.claimed_hkd) as claimed_hkd,
        sum(claims.claimed_hkd * terms.indemnity_pct / 100) as insured_loss_hkd,
        sum(claims.paid_hkd) as claims_paid_hkd,
        sum(claims.recovered_hkd) as recovered_hkd,
        sum(claims.recovered_share_hkd) as recovered_share_hkd,
        sum(
            case
                when claims.status in ('lodged', 'under_review', 'approved')
                    then greatest(claims.claimed_hkd * terms.indemnity_pct / 100 - claims.paid_hkd, 0)
                else 0
            end
        ) as outstanding_hkd
    from claims
    inner join shipments on claims.policy_no = shipments.policy_no and claims.shipment_no = shipments.shipment_no
    inner join terms
        on
            shipments.policy_no = terms.policy_no
            and shipments.shipped_on between terms.terms_from and terms.terms_to
    group by terms.policy_no, terms.cover_start_on
),

measured as (
    select
        covers.*,
        links.sme_id,
        coalesce(declared.declared_value_hkd, 0) as declared_value_hkd,
        coalesce(declared.ecommerce_declared_value_hkd, 0) as ecommerce_declared_value_hkd,
        coalesce(declared.shipment_count, 0) as shipment_count,
        coalesce(declared.overdue_shipment_count, 0) as overdue_shipment_count,
        coalesce(declared.overdue_value_hkd, 0) as overdue_value_hkd,
        coalesce(claimed.claim_count, 0) as claim_count,
        coalesce(claimed.claimed_hkd, 0) as claimed_hkd,
        coalesce(claimed.claims_paid_hkd, 0) as claims_paid_hkd,
        coalesce(claimed.insured_loss_hkd, 0) as insured_loss_hkd,
        coalesce(claimed.recovered_hkd, 0) as recovered_hkd,
        coalesce(claimed.recovered_share_hkd, 0) as recovered_share_hkd,
        coalesce(claimed.claims_paid_hkd, 0) - coalesce(claimed.recovered_share_hkd, 0) as net_claims_hkd,
        coalesce(claimed.outstanding_hkd, 0) as outstanding_hkd,
        case when covers.has_premium_rate then coalesce(declared.premium_hkd, 0) end as premium_hkd,
        coalesce(covers.cover_start_on >= history.first_date, false) as is_fully_covered
    from covers
    left join history on history.first_date is not null
    left join declared on covers.policy_no = declared.policy_no and covers.cover_start_on = declared.cover_start_on
    left join claimed on covers.policy_no = claimed.policy_no and covers.cover_start_on = claimed.cover_start_on
    left join links on covers.brn = links.source_key
),

judged as (
    select
        measured.*,
        coalesce(
            open_build.last_complete_date < {{ dbt.dateadd('month', 12, 'measured.cover_end_on') }}, true
        ) as is_provisional,
        open_build.as_of_date,
        open_build.last_complete_date,
        open_build.release_no
    from measured
    cross join open_build
),

final as (
    select
        policy_no,
        cover_start_on,
        cover_end_on,
        sme_id,
        policy_type,
        status as policy_status,
        is_in_force,
        cast(indemnity_pct as numeric(5, 2)) as indemnity_pct,
        cast(max_liability_hkd as numeric(20, 2)) as max_liability_hkd,
        cast(newest_max_liability_hkd as numeric(20, 2)) as newest_max_liability_hkd,
        cast(declared_value_hkd as numeric(20, 2)) as declared_value_hkd,
        cast(ecommerce_declared_value_hkd as numeric(20, 2)) as ecommerce_declared_value_hkd,
        cast(declared_value_hkd / max_liability_hkd as numeric(20, 4)) as declared_to_limit_ratio,
        cast(claims_paid_hkd / newest_max_liability_hkd as numeric(20, 4)) as paid_to_limit_ratio,
        cast(shipment_count as bigint) as shipment_count,
        cast(overdue_shipment_count as bigint) as overdue_shipment_count,
        cast(overdue_value_hkd as numeric(20, 2)) as overdue_value_hkd,
        cast(claim_count as bigint) as claim_count,
        cast(claimed_hkd as numeric(20, 2)) as claimed_hkd,
        cast(insured_loss_hkd as numeric(20, 2)) as insured_loss_hkd,
        cast(claims_paid_hkd as numeric(20, 2)) as claims_paid_hkd,
        cast(recovered_hkd as numeric(20, 2)) as recovered_hkd,
        cast(recovered_share_hkd as numeric(20, 2)) as recovered_share_hkd,
        cast(net_claims_hkd as numeric(20, 2)) as net_claims_hkd,
        cast(outstanding_hkd as numeric(20, 2)) as outstanding_hkd,
        cast(premium_hkd as numeric(20, 2)) as premium_hkd,
        cast(case when premium_hkd > 0 then net_claims_hkd / premium_hkd end as numeric(20, 4)) as claims_ratio,
        cast(case when premium_hkd > 0 then (net_claims_hkd + outstanding_hkd) / premium_hkd end as numeric(20, 4))
            as incurred_ratio,
        case when shipment_count > 0 or is_fully_covered then shipment_count > 0 end as is_used,
        is_provisional,
        is_fully_covered,
        {{ is_quotable('is_provisional', 'is_fully_covered') }} as is_quotable,
        as_of_date,
        last_complete_date,
        cast('shipments within a year of cover' as {{ dbt.type_string() }}) as coverage_note,
        release_no
    from judged
)

select * from final
