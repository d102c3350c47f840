-- One row per month of receipt, market and platform of E-commerce Easy: applications, amounts and who was new. Everything
-- adds up over rows, enterprises too, since each is counted where it came first.
with applications as (
    select * from {{ ref('mart_funding_applications') }} where programme = 'bud_ecommerce_easy'
),

every_application as (
    select * from {{ ref('mart_funding_applications') }}
),

open_build as (
    {{ release_columns(['funding_applications', 'funding_payments']) }}
),

history as (
    select min(received_on) as history_from from every_application
),

counted as (
    select
        {{ month_of('received_on') }} as received_month,
        market_csd_code,
        market_iso2_code,
        funded_platform,
        count(*) as application_count,
        sum(case when outcome = 'approved' then 1 else 0 end) as approved_count,
        sum(case when outcome = 'rejected' then 1 else 0 end) as rejected_count,
        sum(case when outcome = 'withdrawn' then 1 else 0 end) as withdrawn_count,
        sum(case when outcome = 'pending' then 1 else 0 end) as pending_count,
        sum(case when is_first_of_programme then 1 else 0 end) as enterprise_count,
        sum(case when is_first_of_enterprise then 1 else 0 end) as first_time_applicant_count,
        sum(amount_applied_hkd) as amount_applied_hkd,
        sum(coalesce(amount_approved_hkd, 0)) as amount_approved_hkd,
        sum(paid_hkd) as paid_hkd
    from applications
    group by {{ month_of('received_on') }}, market_csd_code, market_iso2_code, funded_platform
),

judged as (
    select
        counted.*,
        history.history_from,
        sum(counted.pending_count) over (partition by counted.received_month) > 0
        or coalesce(open_build.last_complete_date < {{ dbt.last_day('counted.received_month', 'month') }}, true) as is_provisional,
        counted.received_month > {{ month_of('history.history_from') }} as is_fully_covered,
        open_build.last_complete_date,
        open_build.release_no
    from counted
    cross join history
    cross join open_build
),

final as (
    select
        received_month,
        market_csd_code,
        market_iso2_code,
        case when market_iso2_code = 'CN' then 'mainland' else 'asean' end as market_region,
        funded_platform,
        cast(application_count as bigint) as application_count,
        cast(approved_count as bigint) as approved_count,
        cast(rejected_count as bigint) as rejected_count,
        cast(withdrawn_count as bigint) as withdrawn_count,
        cast(pending_count as bigint) as pending_count,
        cast(enterprise_count as bigint) as enterprise_count,
        cast(first_time_applicant_count as bigint) as first_time_applicant_count,
        cast(amount_applied_hkd as numeric(20, 2)) as amount_applied_hkd,
        cast(amount_approved_hkd as numeric(20, 2)) as amount_approved_hkd,
        cast(paid_hkd as numeric(20, 2)) as paid_hkd,
        history_from,
        is_provisional,
        is_fully_covered,
        {{ is_quotable('is_provisional', 'is_fully_covered') }} as is_quotable,
        last_complete_date,
        release_no
    from judged
)

select * from final
