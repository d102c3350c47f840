-- One row per SME, scheme and period in which neither its grants nor a rule changed, future changes of rules
-- included. An SME that never applied has the period of the release day only. A project that was terminated, or withdrawn after a
-- payment, counts with what was paid to it, a completed one as it was approved. Between two Easy BUD applications lie some
-- months, counted from the receipt of the first, regardless of its outcome. Who is not live on the register has no headroom.
{{ config(materialized='table', indexes=[{'columns': ['sme_id']}]) }}

with statuses as (
    select * from {{ ref('int_funding__statuses_versioned') }} where is_current
),

payments as (
    select * from {{ ref('int_funding__payments_versioned') }} where is_current
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

programmes as (
    select * from {{ ref('funding_programmes') }}
),

rule_periods as (
    select * from {{ ref('int_funding__rule_periods') }}
),

smes as (
    select * from {{ ref('dim_sme') }}
),

life as (
    {{ business_life('smes') }}
),

open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

paid as (
    select
        application_no,
        sum(amount_hkd) as amount_hkd
    from payments
    group by application_no
),

-- What is in force of applications received before there was a cap on it may be more than the cap.
caps as (
    select
        funding_scheme,
        min(valid_from) as capped_from
    from rule_periods
    where in_force_cap_hkd is not null
    group by funding_scheme
),

-- The last status that an application took on a day is its status at the end of that day.
days as (
    select
        statuses.application_no,
        links.sme_id,
        programmes.funding_scheme,
        statuses.status,
        statuses.amount_approved_hkd,
        statuses.received_on,
        {{ hong_kong_date('statuses.status_at') }} as changed_on,
        row_number() over (
            partition by statuses.application_no, {{ hong_kong_date('statuses.status_at') }}
            order by statuses.status_at desc
        ) as recency
    from statuses
    inner join programmes on statuses.programme = programmes.programme
    inner join links on statuses.brn = links.source_key
),

standings as (
    select
        days.sme_id,
        days.funding_scheme,
        days.application_no,
        days.changed_on,
        case
            when days.status in ('approved', 'in_progress', 'completed') then days.amount_approved_hkd
            when days.status in ('terminated', 'withdrawn') then coalesce(paid.amount_hkd, 0)
            else 0
        end as granted_hkd,
        case when days.status in ('approved', 'in_progress') then days.amount_approved_hkd else 0 end as in_force_hkd,
        case
            when days.status in ('approved', 'in_progress') and days.received_on >= caps.capped_from then days.amount_approved_hkd
            else 0
        end as in_force_capped_hkd,
        case
            when days.status in ('approved', 'in_progress', 'completed', 'terminated') then 1
            when days.status = 'withdrawn' and paid.amount_hkd > 0 then 1
            else 0
        end as project_count
    from days
    inner join open_build on days.changed_on <= open_build.as_of_date
    left join caps on days.funding_scheme = caps.funding_scheme
    left join paid on days.application_no = paid.application_no
    where days.recency = 1
),

steps as (
    select
        sme_id,
        funding_scheme,
        changed_on,
        granted_hkd - coalesce(lag(granted_hkd) over (partition by application_no order by changed_on), 0) as granted_hkd,
        in_force_hkd - coalesce(lag(in_force_hkd) over (partition by application_no order by changed_on), 0) as in_force_hkd,
        in_force_capped_hkd - coalesce(
            lag(in_force_capped_hkd) over (partition by application_no order by changed_on), 0
        ) as in_force_capped_hkd,
        project_count - coalesce(lag(project_count) over (partition by application_no order by changed_on), 0) as project_count
    from standings
),

easy_applications as (
    select
        links.sme_id,
        statuses.received_on,
        row_number() over (partition by statuses.application_no order by statuses.status_at desc) as recency
    from statuses
    inner join links on statuses.brn = links.source_key
    inner join open_build on {{ hong_kong_date('statuses.status_at') }} <= open_build.as_of_date
    where statuses.programme = 'bud_easy'
),

easy_waits as (
    select
        easy_applications.sme_id,
        easy_applications.received_on,
        rule_periods.valid_from as rule_from,
        rule_periods.valid_to as rule_to,
        cast(
            {{ dbt.dateadd(
                'month', 'rule_periods.bud_easy_months_between_applications', 'easy_applications.received_on'
            ) }} as date
        ) as over_on
    from easy_applications
    inner join rule_periods on rule_periods.funding_scheme = 'bud' and rule_periods.bud_easy_months_between_applications is not null
    where easy_applications.recency = 1
),

-- How long to wait is a matter of the rule in force on the day, as all else is, and not of that of the first receipt.
easy_steps as (
    select
        sme_id,
        received_on as changed_on,
        received_on as easy_received_on
    from easy_waits
    union distinct
    select
        sme_id,
        over_on as changed_on,
        cast(null as date) as easy_received_on
    from easy_waits
    where over_on >= rule_from and (rule_to is null or over_on <= rule_to)
),

applicants as (
    select distinct
        sme_id,
        funding_scheme
    from steps
),

rule_starts as (
    select
        funding_scheme,
        valid_from as changed_on
    from rule_periods
),

first_rules as (
    select
        funding_scheme,
        min(valid_from) as valid_from
    from rule_periods
    group by funding_scheme
),

current_starts as (
    select
        rule_starts.funding_scheme,
        max(rule_starts.changed_on) as changed_on
    from rule_starts
    inner join open_build on rule_starts.changed_on <= open_build.as_of_date
    group by rule_starts.funding_scheme
),

all_steps as (
    select
        sme_id,
        funding_scheme,
        changed_on,
        granted_hkd,
        in_force_hkd,
        in_force_capped_hkd,
        project_count,
        cast(null as date) as easy_received_on
    from steps
    union all
    select
        sme_id,
        'bud' as funding_scheme,
        changed_on,
        0 as granted_hkd,
        0 as in_force_hkd,
        0 as in_force_capped_hkd,
        0 as project_count,
        easy_received_on
    from easy_steps
    union all
    select
        applicants.sme_id,
        applicants.funding_scheme,
        rule_starts.changed_on,
        0 as granted_hkd,
        0 as in_force_hkd,
        0 as in_force_capped_hkd,
        0 as project_count,
        cast(null as date) as easy_received_on
    from applicants
    inner join rule_starts on applicants.funding_scheme = rule_starts.funding_scheme
    union all
    select
        applicants.sme_id,
        applicants.funding_scheme,
        life.lived_from as changed_on,
        0 as granted_hkd,
        0 as in_force_hkd,
        0 as in_force_capped_hkd,
        0 as project_count,
        cast(null as date) as easy_received_on
    from applicants
    inner join life on applicants.sme_id = life.sme_id
    inner join first_rules on applicants.funding_scheme = first_rules.funding_scheme and life.lived_from > first_rules.valid_from
    union all
    select
        life.sme_id,
        current_starts.funding_scheme,
        greatest(current_starts.changed_on, life.lived_from) as changed_on,
        0 as granted_hkd,
        0 as in_force_hkd,
        0 as in_force_capped_hkd,
        0 as project_count,
        cast(null as date) as easy_received_on
    from life
    inner join open_build on open_build.as_of_date between life.lived_from and life.lived_to
    cross join current_starts
    left join applicants on life.sme_id = applicants.sme_id and current_starts.funding_scheme = applicants.funding_scheme
    where applicants.sme_id is null
),

changes as (
    select
        all_steps.sme_id,
        all_steps.funding_scheme,
        all_steps.changed_on,
        sum(all_steps.granted_hkd) as granted_hkd,
        sum(all_steps.in_force_hkd) as in_force_hkd,
        sum(all_steps.in_force_capped_hkd) as in_force_capped_hkd,
        sum(all_steps.project_count) as project_count,
        max(all_steps.easy_received_on) as easy_received_on
    from all_steps
    group by all_steps.sme_id, all_steps.funding_scheme, all_steps.changed_on
),

running as (
    select
        sme_id,
        funding_scheme,
        changed_on as valid_from,
        cast(
            {{ dbt.dateadd('day', -1, 'lead(changed_on) over (partition by sme_id, funding_scheme order by changed_on)') }} as date
        ) as valid_to,
        sum(granted_hkd) over (partition by sme_id, funding_scheme order by changed_on) as granted_hkd,
        sum(in_force_hkd) over (partition by sme_id, funding_scheme order by changed_on) as in_force_hkd,
        sum(in_force_capped_hkd) over (partition by sme_id, funding_scheme order by changed_on) as in_force_capped_hkd,
        sum(project_count) over (partition by sme_id, funding_scheme order by changed_on) as project_count,
        max(easy_received_on) over (partition by sme_id, funding_scheme order by changed_on) as easy_received_on
    from changes
),

ruled as (
    select
        running.*,
        applicants.sme_id is not null as has_applied,
        rule_periods.is_open,
        life.applicant_status,
        rule_periods.government_share_pct,
        rule_periods.cumulative_ceiling_hkd,
        rule_periods.cumulative_ceiling_projects,
        rule_periods.in_force_cap_hkd,
        rule_periods.cumulative_ceiling_hkd - running.granted_hkd as below_ceiling_hkd,
        rule_periods.in_force_cap_hkd - running.in_force_hkd as below_cap_hkd,
        rule_periods.bud_general_application_cap_hkd,
        rule_periods.bud_easy_application_cap_hkd,
        rule_periods.bud_ecommerce_easy_application_cap_hkd,
        rule_periods.emf_application_cap_hkd,
        coalesce(
            running.valid_from < {{ dbt.dateadd(
                'month', 'rule_periods.bud_easy_months_between_applications', 'running.easy_received_on'
            ) }},
            false
        ) as awaits_easy
    from running
    left join applicants on running.sme_id = applicants.sme_id and running.funding_scheme = applicants.funding_scheme
    inner join life on running.sme_id = life.sme_id and running.valid_from between life.lived_from and life.lived_to
    left join rule_periods
        on running.funding_scheme = rule_periods.funding_scheme and {{ in_force_on('rule_periods', 'running.valid_from') }}
),

measured as (
    select
        ruled.*,
        case
            when applicant_status <> 'live' or not is_open or project_count >= cumulative_ceiling_projects then 0
            when is_open is null then null
            else greatest(least(below_ceiling_hkd, coalesce(below_cap_hkd, below_ceiling_hkd)), 0)
        end as headroom_hkd
    from ruled
),

final as (
    select
        measured.*,
        case
            when bud_general_application_cap_hkd is not null then least(bud_general_application_cap_hkd, headroom_hkd)
        end as bud_general_headroom_hkd,
        case
            when bud_easy_application_cap_hkd is null then null
            when awaits_easy then 0
            else least(bud_easy_application_cap_hkd, headroom_hkd)
        end as bud_easy_headroom_hkd,
        case
            when bud_ecommerce_easy_application_cap_hkd is not null then least(bud_ecommerce_easy_application_cap_hkd, headroom_hkd)
        end as bud_ecommerce_easy_headroom_hkd,
        case
            when emf_application_cap_hkd is not null then least(emf_application_cap_hkd, headroom_hkd)
        end as emf_headroom_hkd
    from measured
)

select * from final
