-- One row per claim with what came of it so far: as its newest status has it, paid and recovered as the newest one that says so.
{{ config(materialized='view') }}

with statuses as (
    select * from {{ ref('int_insurance__claims_versioned') }} where is_current
),

-- Several statuses may be taken on one day.
ordered as (
    select
        statuses.*,
        row_number() over (
            partition by claim_no
            order by
                status_on,
                case status
                    when 'lodged' then 1
                    when 'under_review' then 2
                    when 'recovered' then 5
                    when 'paid' then 4
                    else 3
                end,
                business_date,
                received_at,
                batch_id
        ) as position
    from statuses
),

newest as (
    select
        claim_no,
        max(position) as position,
        max(case when amount_paid_hkd is not null then position end) as paid_position,
        max(case when amount_recovered_hkd is not null then position end) as recovered_position
    from ordered
    group by claim_no
),

final as (
    select
        current_statuses.claim_no,
        current_statuses.policy_no,
        current_statuses.shipment_no,
        current_statuses.amount_claimed_hkd as claimed_hkd,
        coalesce(payments.amount_paid_hkd, 0) as paid_hkd,
        coalesce(recoveries.amount_recovered_hkd, 0) as recovered_hkd
    from newest
    inner join ordered as current_statuses
        on newest.claim_no = current_statuses.claim_no and newest.position = current_statuses.position
    left join ordered as payments on newest.claim_no = payments.claim_no and newest.paid_position = payments.position
    left join ordered as recoveries
        on newest.claim_no = recoveries.claim_no and newest.recovered_position = recoveries.position
)

select * from final
