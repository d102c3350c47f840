-- One row per financing request: when it was made, what was decided and when. Days are calendar days in Hong Kong.
{{ config(materialized='table', indexes=[{'columns': ['request_no'], 'unique': true}]) }}

with statuses as (
    select
        int_financing__versioned.*,
        {{ hong_kong_date('status_at') }} as status_on
    from {{ ref('int_financing__versioned') }}
    where is_current
),

ranked as (
    select
        statuses.*,
        row_number() over (partition by request_no order by status_at desc) as recency
    from statuses
),

submissions as (
    select
        request_no,
        min(status_on) as first_seen_on,
        min(case when status = 'submitted' then status_on end) as submitted_on
    from statuses
    group by request_no
),

final as (
    select
        ranked.request_no,
        ranked.brn,
        ranked.bank_id,
        ranked.consent_id,
        ranked.product,
        ranked.data_used,
        ranked.data_used like '%trade_declaration%' as uses_trade_declarations,
        ranked.status,
        ranked.amount_requested_hkd,
        case when ranked.status = 'approved' then ranked.amount_approved_hkd end as amount_approved_hkd,
        coalesce(submissions.submitted_on, submissions.first_seen_on) as requested_on,
        case when ranked.status in ('approved', 'rejected') then ranked.status_on end as decided_on,
        case
            when ranked.status in ('approved', 'rejected')
                then {{ dbt.datediff('submissions.submitted_on', 'ranked.status_on', 'day') }}
        end as days_to_decision
    from ranked
    inner join submissions on ranked.request_no = submissions.request_no
    where ranked.recency = 1
)

select * from final
