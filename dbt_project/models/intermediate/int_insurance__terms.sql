-- One row per policy, year of cover and period in which it covered what was shipped under the same terms. A report whose cover
-- overlaps that of a year reported before corrects this year; cover that follows it is a renewal. Terms hold from the business
-- date of the report that has them, the first ones from the first day of cover. A report that the policy lapsed or was cancelled
-- ends cover on its business date, until a report says that it is in force again.
{{ config(materialized='table', indexes=[{'columns': ['policy_no']}]) }}

with policies as (
    select * from {{ ref('int_insurance__policies_versioned') }}
),

batches as (
    select * from {{ ref('stg_ops__batches') }} where not is_superseded
),

delivered as (
    select
        policies.*,
        policies.status <> 'in_force' as is_ended,
        row_number() over (
            partition by policies.policy_no, policies.business_date
            order by policies.received_at desc, policies.batch_id desc
        ) as recency
    from policies
    inner join batches on policies.batch_id = batches.batch_id
),

-- Another year of cover may begin on the day on which this one was cancelled.
reports as (
    select
        delivered.*,
        case when is_ended then least(business_date, cover_end_on) else cover_end_on end as ends_on,
        case
            when is_ended and business_date <= cover_end_on then cast({{ dbt.dateadd('day', -1, 'business_date') }} as date)
            else cover_end_on
        end as keeps_until
    from delivered
    where recency = 1
),

compared as (
    select
        reports.*,
        lag(cover_start_on) over (partition by policy_no order by business_date) as start_before,
        lag(keeps_until) over (partition by policy_no order by business_date) as kept_before
    from reports
),

-- Reports in a row about the same year of cover; a later run of them may be about it again.
runs as (
    select
        compared.*,
        sum(case when cover_start_on <= kept_before and cover_end_on >= start_before then 0 else 1 end) over (
            partition by policy_no
            order by business_date
        ) as run_no
    from compared
),

run_ends as (
    select
        runs.*,
        row_number() over (partition by policy_no, run_no order by business_date desc) as recency_in_run
    from runs
),

run_spans as (
    select
        run_ends.*,
        max(keeps_until) over (
            partition by policy_no
            order by cover_start_on, run_no
            rows between unbounded preceding and 1 preceding
        ) as kept_by_earlier
    from run_ends
    where recency_in_run = 1
),

numbered as (
    select
        run_spans.*,
        sum(case when cover_start_on <= kept_by_earlier then 0 else 1 end) over (
            partition by policy_no
            order by cover_start_on, run_no
        ) as year_no
    from run_spans
),

newest as (
    select
        numbered.*,
        row_number() over (partition by policy_no, year_no order by business_date desc) as recency_in_year
    from numbered
),

years as (
    select
        policy_no,
        year_no,
        cover_start_on,
        ends_on,
        brn,
        policy_type,
        status,
        cast(
            {{ dbt.dateadd('day', -1, 'lead(cover_start_on) over (partition by policy_no order by cover_start_on)') }} as date
        ) as day_before_next
    from newest
    where recency_in_year = 1
),

placed as (
    select
        years.policy_no,
        years.cover_start_on,
        least(years.ends_on, coalesce(years.day_before_next, years.ends_on)) as cover_end_on,
        years.brn,
        years.policy_type,
        years.status,
        runs.indemnity_pct,
        runs.max_liability_hkd,
        runs.premium_rate_pct,
        runs.is_ended,
        runs.ends_on,
        runs.business_date,
        row_number() over (partition by years.policy_no, years.year_no order by runs.business_date) as position
    from runs
    inner join numbered on runs.policy_no = numbered.policy_no and runs.run_no = numbered.run_no
    inner join years on numbered.policy_no = years.policy_no and numbered.year_no = years.year_no
),

begun as (
    select
        placed.*,
        case
            when position = 1 then cover_start_on
            when is_ended then greatest(cast({{ dbt.dateadd('day', 1, 'business_date') }} as date), cover_start_on)
            else greatest(business_date, cover_start_on)
        end as terms_from
    from placed
),

bounded as (
    select
        begun.*,
        cast(
            {{ dbt.dateadd(
                'day', -1, 'lead(terms_from) over (partition by policy_no, cover_start_on order by position)'
            ) }} as date
        ) as day_before_change
    from begun
),

periods as (
    select
        bounded.*,
        least(cover_end_on, ends_on, coalesce(day_before_change, cover_end_on)) as ended_to,
        least(cover_end_on, coalesce(day_before_change, cover_end_on)) as in_force_to
    from bounded
    where position = 1 or not is_ended
),

final as (
    select
        policy_no,
        cover_start_on,
        cover_end_on,
        terms_from,
        case when is_ended then ended_to else in_force_to end as terms_to,
        brn,
        policy_type,
        status,
        indemnity_pct,
        max_liability_hkd,
        premium_rate_pct
    from periods
    where terms_from <= case when is_ended then ended_to else in_force_to end
)

select * from final
