-- One row per product, size class of the enterprise, and trade declarations among the data or not: what became of the financing
-- requests, how fast and how large. Requests with the same product and size compare; banks choose which data they ask for.
with requests as (
    select * from {{ ref('int_financing__decided') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

smes as (
    select * from {{ ref('dim_sme') }}
),

open_build as (
    {{ release_columns(['cdi_financing_requests']) }}
),

approvals as (
    select
        brn,
        min(decided_on) as first_approved_on
    from requests
    where status = 'approved'
    group by brn
),

counted as (
    select
        requests.product as financing_product,
        coalesce(smes.sme_class, 'unknown') as sme_class,
        requests.uses_trade_declarations as with_trade_declarations,
        count(*) as request_count,
        sum(case when requests.status = 'approved' then 1 else 0 end) as approved_count,
        sum(case when requests.status = 'rejected' then 1 else 0 end) as rejected_count,
        sum(case when requests.status = 'withdrawn' then 1 else 0 end) as withdrawn_count,
        sum(case when requests.status = 'submitted' then 1 else 0 end) as open_count,
        sum(case when requests.status in ('approved', 'rejected') then 1 else 0 end) as decided_count,
        sum(case when approvals.first_approved_on < requests.requested_on then 1 else 0 end) as repeat_count,
        count(requests.days_to_decision) as timed_count,
        sum(coalesce(requests.days_to_decision, 0)) as decision_days,
        {{ median('requests.days_to_decision') }} as median_decision_days,
        sum(case when requests.status = 'approved' then requests.amount_requested_hkd else 0 end) as approved_requested_hkd,
        sum(coalesce(requests.amount_approved_hkd, 0)) as amount_approved_hkd
    from requests
    left join links on requests.brn = links.source_key
    left join smes on links.sme_id = smes.sme_id
    left join approvals on requests.brn = approvals.brn
    group by requests.product, coalesce(smes.sme_class, 'unknown'), requests.uses_trade_declarations
),

final as (
    select
        counted.financing_product,
        counted.sme_class,
        counted.with_trade_declarations,
        cast(counted.request_count as bigint) as request_count,
        cast(counted.approved_count as bigint) as approved_count,
        cast(counted.rejected_count as bigint) as rejected_count,
        cast(counted.withdrawn_count as bigint) as withdrawn_count,
        cast(counted.open_count as bigint) as open_count,
        cast(counted.repeat_count as bigint) as repeat_count,
        cast(counted.decided_count as bigint) as decided_count,
        cast(
            {{ shown_from('counted.decided_count', 'counted.approved_count * 1.0 / counted.decided_count') }} as numeric(7, 4)
        ) as approval_rate,
        cast(counted.timed_count as bigint) as timed_count,
        cast(counted.decision_days as bigint) as decision_days,
        cast({{ shown_from('counted.timed_count', 'counted.median_decision_days') }} as numeric(10, 1)) as median_decision_days,
        cast(counted.approved_requested_hkd as numeric(20, 2)) as approved_requested_hkd,
        cast(counted.amount_approved_hkd as numeric(20, 2)) as amount_approved_hkd,
        open_build.last_complete_date,
        cast('requests that banks report through CDI; size on the register now' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from counted
    cross join open_build
)

select * from final
