-- One row per claim with what came of it so far: as its newest status has it, with all that was paid and recovered. Payments add
-- up; a recovery says all that was paid until then. HKECIC is due the share of a recovery that it paid of the loss.
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
        max(case when status = 'recovered' then position else 0 end) as recovered_position
    from ordered
    group by claim_no
),

sums as (
    select
        ordered.claim_no,
        sum(
            case
                when ordered.position = newest.recovered_position then ordered.amount_paid_hkd
                when ordered.status = 'paid' and ordered.position > newest.recovered_position then ordered.amount_paid_hkd
                else 0
            end
        ) as paid_hkd,
        sum(coalesce(ordered.amount_recovered_hkd, 0)) as recovered_hkd
    from ordered
    inner join newest on ordered.claim_no = newest.claim_no
    group by ordered.claim_no
),

final as (
    select
        current_statuses.claim_no,
        current_statuses.policy_no,
        current_statuses.shipment_no,
        current_statuses.status,
        current_statuses.amount_claimed_hkd as claimed_hkd,
        sums.paid_hkd,
        sums.recovered_hkd,
        cast(sums.recovered_hkd * sums.paid_hkd / current_statuses.amount_claimed_hkd as numeric(20, 2)) as recovered_share_hkd
    from newest
    inner join ordered as current_statuses
        on newest.claim_no = current_statuses.claim_no and newest.position = current_statuses.position
    inner join sums on newest.claim_no = sums.claim_no
)

select * from final
