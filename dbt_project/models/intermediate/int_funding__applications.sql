-- One row per application: how it ended and when, what was asked for, granted and paid, and what came before it. The last
-- status decides: any status that follows an approval counts as approved, but a withdrawal after one as withdrawn.
{{ config(materialized='table', indexes=[{'columns': ['sme_id']}]) }}

with statuses as (
    select * from {{ ref('int_funding__statuses_versioned') }} where is_current
),

payments as (
    select * from {{ ref('int_funding__payments_versioned') }} where is_current
),

programmes as (
    select * from {{ ref('funding_programmes') }}
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

paid as (
    select
        application_no,
        sum(amount_hkd) as paid_hkd
    from payments
    group by application_no
),

last_statuses as (
    select
        statuses.*,
        case
            when status in ('approved', 'in_progress', 'completed', 'terminated') then 'approved'
            when status = 'received' then 'pending'
            else status
        end as outcome,
        row_number() over (partition by application_no order by status_at desc) as recency
    from statuses
),

-- An application that was rejected and approved on review was decided when it was approved.
decisions as (
    select
        application_no,
        status,
        min({{ hong_kong_date('status_at') }}) as decided_on
    from statuses
    where status in ('approved', 'rejected', 'withdrawn')
    group by application_no, status
),

applications as (
    select
        last_statuses.application_no,
        links.sme_id,
        last_statuses.programme,
        programmes.funding_scheme,
        last_statuses.received_on,
        last_statuses.market_code as market_iso2_code,
        last_statuses.purpose,
        last_statuses.platform,
        last_statuses.status,
        last_statuses.outcome,
        decisions.decided_on,
        case
            when last_statuses.outcome in ('approved', 'rejected')
                then {{ dbt.datediff('last_statuses.received_on', 'decisions.decided_on', 'day') }}
        end as processing_days,
        last_statuses.amount_applied_hkd,
        case when last_statuses.outcome = 'approved' then last_statuses.amount_approved_hkd end as amount_approved_hkd,
        coalesce(paid.paid_hkd, 0) as paid_hkd,
        last_statuses.project_start_on,
        last_statuses.project_end_on
    from last_statuses
    inner join programmes on last_statuses.programme = programmes.programme
    left join links on last_statuses.brn = links.source_key
    left join decisions
        on last_statuses.application_no = decisions.application_no and last_statuses.outcome = decisions.status
    left join paid on last_statuses.application_no = paid.application_no
    where last_statuses.recency = 1
),

final as (
    select
        applications.*,
        row_number() over (partition by sme_id order by received_on, application_no) = 1 as is_first_of_enterprise,
        row_number() over (partition by sme_id, programme order by received_on, application_no) = 1 as is_first_of_programme
    from applications
)

select * from final
