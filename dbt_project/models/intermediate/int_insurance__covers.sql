-- One row per policy and year of cover, as the newest report of that year has it. A year of cover ends where the next one
-- begins, so that a shipment belongs to one.
{{ config(materialized='view') }}

with policies as (
    select * from {{ ref('int_insurance__policies_versioned') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }} where not is_superseded
),

reports as (
    select
        policies.*,
        row_number() over (
            partition by policies.policy_no, policies.cover_start_on
            order by policies.business_date desc, policies.received_at desc, policies.batch_id desc
        ) as recency
    from policies
    inner join batches on policies.batch_id = batches.batch_id
),

years as (
    select
        reports.*,
        cast(
            {{ dbt.dateadd('day', -1, 'lead(cover_start_on) over (partition by policy_no order by cover_start_on)') }} as date
        ) as day_before_next
    from reports
    where recency = 1
),

final as (
    select
        policy_no,
        cover_start_on,
        case when day_before_next < cover_end_on then day_before_next else cover_end_on end as cover_end_on,
        brn,
        policy_type,
        status,
        indemnity_pct,
        max_liability_hkd,
        premium_rate_pct
    from years
)

select * from final
