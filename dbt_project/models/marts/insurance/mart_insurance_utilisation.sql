-- One row per policy and year of cover: what was declared under it against its limit, what was reported overdue, claimed and
-- paid. Shipments may be declared a month late and claims follow for months after the year has ended.
with covers as (
    select * from {{ ref('int_insurance__covers') }}
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
        sum(shipment_count) as shipment_count,
        sum(overdue_shipment_count) as overdue_shipment_count,
        sum(overdue_value_hkd) as overdue_value_hkd
    from monthly
    group by policy_no, cover_start_on
),

claimed as (
    select
        covers.policy_no,
        covers.cover_start_on,
        count(*) as claim_count,
        sum(claims.claimed_hkd) as claimed_hkd,
        sum(claims.paid_hkd) as claims_paid_hkd,
        sum(claims.recovered_hkd) as recovered_hkd
    from claims
    inner join shipments on claims.policy_no = shipments.policy_no and claims.shipment_no = shipments.shipment_no
    inner join covers
        on
            shipments.policy_no = covers.policy_no
            and shipments.shipped_on between covers.cover_start_on and covers.cover_end_on
    group by covers.policy_no, covers.cover_start_on
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
        coalesce(claimed.recovered_hkd, 0) as recovered_hkd,
        coalesce(declared.declared_value_hkd, 0) * covers.premium_rate_pct / 100 as premium_hkd,
        coalesce(covers.cover_start_on >= history.first_date, false) as is_fully_covered
    from covers
    left join history on history.first_date is not null
    left join declared on covers.policy_no = declared.policy_no and covers.cover_start_on = declared.cover_start_on
    left join claimed on covers.policy_no = claimed.policy_no and covers.cover_start_on = claimed.cover_start_on
    left join links on covers.brn = links.source_key
),

final as (
    select
        measured.policy_no,
        measured.cover_start_on,
        measured.cover_end_on,
        measured.sme_id,
        measured.policy_type,
        measured.status as policy_status,
        measured.status = 'in_force'
        and open_build.as_of_date between measured.cover_start_on and measured.cover_end_on as is_in_force,
        cast(measured.indemnity_pct as numeric(5, 2)) as indemnity_pct,
        cast(measured.max_liability_hkd as numeric(20, 2)) as max_liability_hkd,
        cast(measured.declared_value_hkd as numeric(20, 2)) as declared_value_hkd,
        cast(measured.ecommerce_declared_value_hkd as numeric(20, 2)) as ecommerce_declared_value_hkd,
        cast(measured.declared_value_hkd / measured.max_liability_hkd as numeric(20, 4)) as declared_to_limit_ratio,
        cast(measured.claims_paid_hkd / measured.max_liability_hkd as numeric(20, 4)) as paid_to_limit_ratio,
        cast(measured.shipment_count as bigint) as shipment_count,
        cast(measured.overdue_shipment_count as bigint) as overdue_shipment_count,
        cast(measured.overdue_value_hkd as numeric(20, 2)) as overdue_value_hkd,
        cast(measured.claim_count as bigint) as claim_count,
        cast(measured.claimed_hkd as numeric(20, 2)) as claimed_hkd,
        cast(measured.claims_paid_hkd as numeric(20, 2)) as claims_paid_hkd,
        cast(measured.recovered_hkd as numeric(20, 2)) as recovered_hkd,
        cast(measured.premium_hkd as numeric(20, 2)) as premium_hkd,
        cast(
            case when measured.premium_hkd > 0 then (measured.claims_paid_hkd - measured.recovered_hkd) / measured.premium_hkd end
            as numeric(20, 4)
        ) as claims_ratio,
        case when measured.shipment_count > 0 or measured.is_fully_covered then measured.shipment_count > 0 end as is_used,
        coalesce(
            open_build.last_complete_date < {{ dbt.dateadd('month', 12, 'measured.cover_end_on') }}, true
        ) as is_provisional,
        measured.is_fully_covered,
        open_build.last_complete_date,
        cast('shipments within a year of cover' as text) as coverage_note,
        open_build.release_no
    from measured
    cross join open_build
)

select * from final
